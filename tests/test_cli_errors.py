"""What the command says about inputs, options and outputs that make no sense, and that it touches nothing then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rollout_etl.errors import ExitCode, UnreadableError
from rollout_etl.read.inputs import find_inputs
from tests.command import COMMAND, run, tree

TO = ("-o", "out.jsonl")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nope"], 2, "nope"),
        (["sft"], 2, "no input given"),
        (["sft", "good.jsonl"], 2, "no output given"),
        (["sft", "good.jsonl", "-o", ""], 2, "no output given"),
        (["sft", "good.jsonl", "", *TO], 2, "an input is an empty text: a variable may not be set"),
        (["sft", "good.jsonl", *TO, "--nope"], 2, "--nope"),
        (["sft", "nope.jsonl", *TO], 2, "no such file or folder: nope.jsonl"),
        (["sft", "*.nope", *TO], 2, "no file or folder matches *.nope"),
        (["sft", "folder", *TO], 2, "nothing to read in folder"),
        (["sft", "good.jsonl", "-o", "out.txt"], 2, "must end with .jsonl or .parquet"),
        (["sft", "good.jsonl", "-o", "folder"], 2, "folder is a folder"),
        (["sft", "good.jsonl", "-o", "good.jsonl"], 2, "good.jsonl is an input"),
        (["sft", "good.jsonl", "-o", "folder/../good.jsonl"], 2, "is an input"),
        (["sft", "good.jsonl", *TO, "--quarantine", "good.jsonl"], 2, "good.jsonl is an input"),
        (["sft", "good.jsonl", *TO, "--quarantine", "out.jsonl"], 2, "both the output and the quarantine"),
        (["sft", "good.jsonl", *TO, "--quarantine", "out.jsonl.manifest.json"], 2, "both the output and the quarantine"),
        (["sft", "good.jsonl", "-o", "prompts.jsonl", "--exclude-prompts", "prompts.jsonl"], 2, "prompts.jsonl is an input"),
        (["sft", "good.jsonl", *TO, "--quarantine", "prompts.jsonl", "--exclude-prompts", "prompts.jsonl"], 2, "prompts.jsonl is an input"),
        (["merge", "a=good.jsonl", *TO, "--reward-scale", "b=0,1:-1,1"], 2, "--reward-scale names 'b', but there is no rollout of it"),
        (["stats", "good.jsonl", "--for", "rm"], 2, "Invalid value for '--for': 'rm' is not one of 'sft', 'dpo', 'grpo', 'ppo', 'kto'."),
        (["sft", "good.jsonl", "-o", "tasks.jsonl", "--task-inputs", "tasks.jsonl"], 2, "tasks.jsonl is an input"),
        (["sft", "tasks.jsonl", "-o", "tasks_materialized_inputs.jsonl"], 2, "tasks_materialized_inputs.jsonl is an input"),
        (["sft", "list.jsonl.manifest.json", "-o", "list.jsonl"], 2, "list.jsonl.manifest.json is an input"),
        (["sft", "good.jsonl", "-o", "out.parquet"], 2, "from JSONL only"),
        (["grpo", "good.jsonl", "-o", "out.parquet", "--format", "gym"], 2, "from JSONL only"),
        (["sft", "good.jsonl", *TO, "--keep", "nope"], 2, "no rule 'nope'; rules are failure_row, masked"),
        (["sft", "good.jsonl", *TO, "--drop", "nope"], 2, "no rule 'nope'"),
        (["sft", "good.jsonl", *TO, "--keep", "masked", "--drop", "masked"], 2, "--keep masked and --drop masked cannot be combined"),
        (["sft", "good.jsonl", *TO, "--reward-scale", "0,1:nan,1"], 2, "--reward-scale 0,1:nan,1: bounds must be finite"),
        (["stats", "good.jsonl", "--success", "nan"], 2, "--success nan is not a number to compare with"),
        (["sft", "good.jsonl", *TO, "--keep", "truncate"], 2, "rollout-etl: no rule 'truncate'; did you mean truncated?\n"),
        (["sft", "good.jsonl", *TO, "--where", "rewrd > 1"], 2, "rollout-etl: --where names 'rewrd', which is not a column; did you mean reward?\n"),
        (["sft", "good.jsonl", *TO, "--target", "trl", "--extra", "agent_nam"], 2, "rollout-etl: no column 'agent_nam'; did you mean agent_name?\n"),
        (["sft", "a=good.jsonl", "b=good.jsonl", *TO], 2, "rollout-etl: good.jsonl is named twice, as a and as b\n"),
        (["sft", "good.jsonl", *TO, "--group-by", ","], 2, "'' is not a field path"),
        (["sft", "good.jsonl", "-o", "s3://bucket/out.jsonl"], 2, "rollout-etl: s3://bucket/out.jsonl is a URL; write to a local file\n"),
        (["sft", "good.jsonl", "-o", "~/out.jsonl"], 2, "~/out.jsonl begins with ~, which only a shell replaces"),
        (["sft", "text.jsonl", "-o", "~/out.jsonl"], 2, "~/out.jsonl begins with ~, which only a shell replaces"),
        (["ingest", "good.jsonl", "-o", "~/out"], 2, "~/out begins with ~, which only a shell replaces"),
        (["sql", "good.jsonl", "SELECT 1", "-o", "~/out.csv"], 2, "~/out.csv begins with ~, which only a shell replaces"),
        (["sql", "good.jsonl", ""], 2, "the query is empty"),
        (["show", "good.jsonl", "--group", ""], 2, "--group is empty"),
        (["sql", "good.jsonl", "SELEC 1"], 2, "no such file or folder: SELEC 1"),
        (["sft", "good.jsonl", "-o", "out.txt"], 2, "out.txt must end with .jsonl or .parquet, or with / for a folder of shards"),
        (["sft", "good.jsonl", *TO, "--keep", "empty_answer"], 2, "cannot hold such rollouts"),
        (["sft", "good.jsonl", *TO, "--think", "nope"], 2, "'keep', 'strip', 'move'"),
        (["sft", "good.jsonl", *TO, "--reward-threshold", "nope"], 2, "--reward-threshold"),
        (["sft", "good.jsonl", *TO, "--max-bad-fraction", "2"], 2, "--max-bad-fraction"),
        (["dpo", "good.jsonl", *TO, "--min-gap", "-1"], 2, "must not be negative"),
        (["dpo", "good.jsonl", *TO, "--cross-prompt"], 2, "needs --strategy stratified"),
        (["dpo", "good.jsonl", *TO, "--strategy", "stratified", "--low-threshold", "0.9"], 2, "must be less than --high-threshold"),
        (["dpo", "good.jsonl", *TO, "--max-pairs", "0"], 2, "at least 1"),
        (["sft", "rollouts.jsonl", *TO], 3, "1 of 49 lines are not rollouts, more than --max-bad-fraction 0.01"),
        (["sft", "text.jsonl", *TO], 3, "text.jsonl:1 (not JSON"),
        (["sft", "cut.jsonl.gz", *TO], 3, "cannot read cut.jsonl.gz"),
        (["sft", "text.parquet", *TO], 3, "cannot read text.parquet"),
        (["sft", "good.jsonl", "-o", "text.jsonl/out.jsonl"], 3, "cannot write text.jsonl/out.jsonl"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors(arguments: list[str], code: int, said: str, folder: Path) -> None:
    before = tree(folder)
    done = run(*arguments, folder=folder)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("rollout-etl: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert tree(folder) == before


BROKEN = """
import sys
from rollout_etl.cli.main import main
from rollout_etl.read.scan import Rollouts

def broken(*arguments, **options):
    raise TypeError("first line" + chr(10) + "second line")

Rollouts.batches = broken
main(sys.argv[1:])
"""


def test_a_bug_is_one_line_and_not_the_code_of_nothing_to_write(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", BROKEN, "sft", "good.jsonl", *TO], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == ExitCode.INTERNAL
    assert done.stderr == "rollout-etl: internal error, please report it: TypeError at <string>:7: first line\n"


@pytest.mark.parametrize("command", ["sft {} -o out.jsonl", "sft . -o out.jsonl", "stats {}", "sql {} 'SELECT 1'", "sft good.jsonl -o {}", "validate {}"])
def test_a_file_name_that_is_no_text(command: str, folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.jsonl")).write_bytes((folder / "good.jsonl").read_bytes())
    line = f'"{COMMAND}" {command}'.encode().replace(b"{}", b"caf\xe9.jsonl")
    done = subprocess.run([b"bash", b"-c", line], cwd=folder, capture_output=True, timeout=120)
    assert (done.returncode, done.stderr.decode()) == (2, f"rollout-etl: {'./' if ' . ' in command else ''}caf\N{REPLACEMENT CHARACTER}.jsonl is not UTF-8; give the file another name\n")
    assert not (folder / "out.jsonl").exists()


def test_an_open_file_of_the_process_is_not_replaced(folder: Path) -> None:
    """As /dev/stdout is, which leads to a file when the output is redirected."""
    (folder / "stdout.csv").symlink_to("/proc/self/fd/1")
    with (folder / "redirected").open("w") as file:
        done = subprocess.run([COMMAND, "sql", "good.jsonl", "SELECT 1", "-o", "stdout.csv"], cwd=folder, stdout=file, stderr=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (3, "rollout-etl: cannot write stdout.csv: it is not a regular file\n")
    assert (folder / "stdout.csv").is_symlink()


def test_what_a_file_name_would_tell_a_terminal_is_not_passed_on(folder: Path) -> None:
    (folder / "a\x1b[31m\nb.jsonl").write_text("no rollout\n")
    done = run("sft", "a\x1b[31m\nb.jsonl", *TO, folder=folder)
    assert done.stderr.startswith("rollout-etl: 1 of 1 lines") and "a?[31m?b.jsonl" in done.stderr and done.stderr.count("\n") == 1


def test_a_bad_option_is_told_what_was_meant(folder: Path) -> None:
    done = run("grpo", "good.jsonl", *TO, "--group-by", "expected_answr,nosuch", "--json", folder=folder)
    assert json.loads(done.stdout)["warnings"][-2:] == [
        "--group-by expected_answr: no rollout has this field; did you mean expected_answer?",
        "--group-by nosuch: no rollout has this field",
    ]
    done = run("sft", "good.jsonl", *TO, "--ground-truth-field", "expected_answer", "--group-by", "agent_ref.name", "--json", folder=folder)
    assert not any("no rollout has this field" in warning for warning in json.loads(done.stdout)["warnings"])
    done = run("grpo", "good.jsonl", *TO, "--ground-truth-field", "verifier_metadata.nope", "--json", folder=folder)
    assert "--ground-truth-field verifier_metadata.nope: no rollout has this field" in json.loads(done.stdout)["warnings"]


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        (["sft", "--near", "0.5"], "--near has no effect without --dedup near-response, near-prompt or --split-near"),
        (["sft", "--exclude-ngram", "5"], "--exclude-ngram has no effect without --exclude-prompts"),
        (["dpo", "--high-threshold", "0.8"], "--high-threshold has no effect without --strategy stratified"),
        (["dpo", "--strategy", "all", "--top-k", "3"], "--top-k has no effect without --strategy top-k-bottom-k"),
        (["dpo", "--strategy", "ranked", "--max-pairs", "3"], "--max-pairs has no effect without --strategy stratified or all or top-k-bottom-k"),
        (["sft", "--format", "simple", "--tool-call-style", "flat"], "--tool-call-style has no effect without --format openai"),
        (["dpo", "--format", "preference", "--prompt-as", "text"], "--prompt-as has no effect without --format binary"),
        (["grpo", "--agent-name", "a"], "--agent-name has no effect without --format gym"),
        (["grpo", "--format", "gym", "--no-ground-truth"], "--no-ground-truth has no effect without --format response"),
        (["sft", "--success", "0.9"], "--success has no effect without --where-group, --select shortest-correct or first-correct, or --extra pass_rate"),
        (["sft", "--seed", "5"], "--seed has no effect without --sample, --cap or --mix"),
        (["dpo", "--strategy", "ranked", "--seed", "5"], "--seed has no effect without --sample, --cap, --mix or a --strategy that draws pairs"),
        (["dpo", "--pairs-per-group", "3"], "--pairs-per-group has no effect without --strategy stratified or ranked or adjacent or all or top-k-bottom-k"),
        (["dpo", "--max-uses", "3"], "--max-uses has no effect without --strategy stratified or ranked or adjacent or all or top-k-bottom-k"),
        (["ppo", "--target", "openrlhf", "--with-responses", "--all-rollouts"], "--all-rollouts has no effect with --with-responses"),
        (["ppo", "--target", "custom", "--map", "a=line", "--with-responses", "--no-ground-truth"],
         "--no-ground-truth has no effect with --with-responses and --map, which names the columns"),
        (["dpo", "--arguments", "string"], "--arguments string has no effect on rows without tool calls"),
        (["dpo", "--prompt-as", "messages", "--arguments", "string"], "--arguments string has no effect on rows without tool calls"),
        (["sft", "--format", "simple", "--arguments", "object"], "--arguments object has no effect on rows without tool calls"),
        (["grpo", "--format", "gym", "--arguments", "string"], "--arguments string has no effect on rows without tool calls"),
        (["sft", "--target", "verl", "--as", "messages", "--arguments", "string", "-o", "out.parquet"],
         "--arguments string has no effect on rows without tool calls"),
        (["grpo", "--format", "gym", "--think", "strip"], "--think strip has no effect on rows without answers"),
        (["grpo", "--target", "trl", "--think", "move"], "--think move has no effect on rows without answers"),
        (["sft", "--target", "custom", "--map", "q=input", "--think", "strip"], "--think strip has no effect on rows without answers"),
        (["sft", "--mix", "math=0.5,code=0.5"], "--mix names 'code', but there is no example of it"),
        (["sft", "--reward-scale", "code=0,1:-1,1"], "--reward-scale code: no rollout has this task_name"),
        (["sft", "--mix", "maths=1"], "--mix names 'maths', but there is no example of it; did you mean math?"),
        (["sft", "--where", "metrics.mask_sampel = 0"], "--where metrics.mask_sampel: no rollout has this metric; did you mean mask_sample?"),
        (["sft", "--reward", "0.5*style"], "--reward metrics.style: no rollout has this metric"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_option_that_does_nothing_is_warned_about(arguments: list[str], warning: str, folder: Path) -> None:
    recipe, *options = arguments
    done = run(recipe, "math=good.jsonl", *TO, *options, "--json", "--quiet", folder=folder)
    assert warning in json.loads(done.stdout)["warnings"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["sft", "--arguments", "string", "--think", "move"],
        ["sft", "--target", "openrlhf", "--arguments", "object", "--think", "strip"],
        ["sft", "--target", "trl", "--as", "text", "--think", "strip"],
        ["dpo", "--format", "preference", "--arguments", "string", "--think", "strip"],
        ["dpo", "--prompt-as", "messages", "--keep", "tool_prompt", "--arguments", "string"],
        ["grpo", "--think", "strip"],
        ["grpo", "--target", "trl", "--arguments", "string"],
        ["kto", "--target", "trl", "--arguments", "string", "--think", "strip"],
        ["ppo", "--with-responses", "--think", "strip"],
    ],
    ids=" ".join,
)
def test_an_option_that_may_do_something_is_not_warned_about(arguments: list[str], folder: Path) -> None:
    recipe, *options = arguments
    done = run(recipe, "good.jsonl", *TO, *options, "--json", "--quiet", folder=folder)
    assert not any("has no effect" in warning for warning in json.loads(done.stdout)["warnings"])


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (["--mix", "code=1"], "(out_of_mix 8, gap_too_small 2); name only existing sources in --mix"),
        (["--min-gap", "5"], "(gap_too_small 10); lower --min-gap 5"),
        (["--match-length", "1"], "(length_mismatch 8, gap_too_small 2); raise --match-length"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_no_pairs_names_the_option_that_dropped_most(options: list[str], advice: str, folder: Path) -> None:
    done = run("dpo", "math=good.jsonl", *TO, *options, "--json", "--quiet", folder=folder)
    assert json.loads(done.stdout)["warnings"][-1] == f"no pairs: 10 candidates, but all were dropped {advice}"


@pytest.mark.parametrize(
    ("options", "way"),
    [
        ([], "(23): lower --reward-threshold, or collect more rollouts (dropped: "),
        (["--reward-threshold", "-1"], "(44): collect more rollouts (dropped: "),
        (["--mix", "code=1"], "(0): name only existing sources in --mix, lower --reward-threshold, or collect more rollouts (dropped: out_of_mix 23, "),
        (["--token-ids", "--target", "trl", "-o", "out.parquet"], "(0): leave --token-ids out, lower --reward-threshold, or collect more rollouts (dropped: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_few_examples_names_what_would_make_more(options: list[str], way: str, folder: Path) -> None:
    done = run("sft", "math=good.jsonl", *TO, *options, "--json", "--quiet", folder=folder)
    [warning] = [text for text in json.loads(done.stdout)["warnings"] if text.startswith("fewer than")]
    assert warning.startswith(f"fewer than 100 examples {way}")


def test_no_pairs_where_all_rewards_are_equal(folder: Path) -> None:
    lines = [json.loads(line) | {"reward": 1.0} for line in (folder / "good.jsonl").read_text().splitlines()]
    (folder / "equal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run("dpo", "equal.jsonl", *TO, "--min-gap", "0", "--json", "--quiet", folder=folder)
    assert json.loads(done.stdout)["warnings"][-1].endswith("; the rewards of a prompt are all equal: collect harder prompts, or use a higher temperature")


@pytest.mark.parametrize(
    ("command", "way"),
    [
        (["dpo"], "--format preference (nemo-rl) or --as messages (other targets)"),
        (["sft", "--format", "simple"], "--format openai (nemo-rl) or --as messages (other targets)"),
        (["kto", "--target", "trl", "--as", "text"], "--as messages (other targets)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_agents_without_a_format_for_them_are_told_of_one(command: list[str], way: str, tmp_path: Path) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = [call, {"type": "function_call_output", "call_id": "c", "output": "7"}, {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "7"}]}]
    row = {"responses_create_params": {"input": [{"role": "user", "content": "q"}]}, "response": {"output": output}, "reward": 1.0}
    (tmp_path / "agent.jsonl").write_text(json.dumps(row) + "\n")
    done = run(*command, "agent.jsonl", *TO, "--json", "--quiet", folder=tmp_path)
    [warning] = [text for text in json.loads(done.stdout)["warnings"] if "flattened_completion 1" in text]
    assert warning.endswith(f"; tool calls and several turns need {way}")


def test_options_that_are_looked_at_are_not_warned_about(folder: Path) -> None:
    used = ["--strategy", "top-k-bottom-k", "--top-k", "3", "--max-pairs", "3", "--exclude-prompts", "prompts.jsonl", "--exclude-ngram", "5", "--mix", "math=1"]
    done = run("dpo", "math=good.jsonl", *TO, *used, "--where", "metrics.mask_sample is null", "--json", "--quiet", folder=folder)
    assert (done.returncode, json.loads(done.stdout)["warnings"]) == (0, [])


@pytest.mark.parametrize("option", ["--quarantine", "--profile"])
def test_a_pipe_is_not_replaced_by_a_file(option: str, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    done = run("sft", "good.jsonl", *TO, option, "pipe", folder=folder)
    assert done.returncode in (ExitCode.USAGE, ExitCode.UNREADABLE) and done.stderr.startswith(("rollout-etl: cannot write pipe", "rollout-etl: pipe already exists"))
    assert (folder / "pipe").is_fifo() and not (folder / "out.jsonl").exists()


def test_what_libraries_warn_of_is_not_said(folder: Path) -> None:
    warning = "import sys, warnings; from rollout_etl.cli.main import main; from rollout_etl.read import scan\n" \
        "scan.Rollouts.batches = lambda *a, **b: warnings.warn('for developers') or sys.exit(3)\nmain(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", warning, "sft", "good.jsonl", *TO], cwd=folder, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (3, "")


def test_a_file_url_is_an_input_too(folder: Path) -> None:
    done = run("sft", (folder / "good.jsonl").as_uri(), "-o", "good.jsonl", folder=folder)
    assert (done.returncode, done.stderr) == (ExitCode.USAGE, "rollout-etl: good.jsonl is an input; give the output another name\n")


def test_a_folder_that_cannot_be_searched_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "folder" / "deeper").mkdir()
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("deeper"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UnreadableError, match=r"cannot read .*deeper: Permission denied"):
        find_inputs(folder)
