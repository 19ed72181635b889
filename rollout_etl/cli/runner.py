"""From parsed options to a run and its exit code."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rollout_etl.cli import streams
from rollout_etl.cli.options import LogFormat
from rollout_etl.cli.talk import TALK, Listener
from rollout_etl.errors import ExitCode, RolloutETLError, UsageError, WriteError
from rollout_etl.plain_text import first_line
from rollout_etl.sizes import bytes_of

if TYPE_CHECKING:
    from types import FrameType

    from typer.exceptions import TyperException

    from rollout_etl.publish.outputs import Sharding
    from rollout_etl.run.execute import Run


INTERRUPTED = "interrupted; nothing was published"


def run_recipe(recipe: str, given: dict[str, Any], names: Sequence[str]) -> NoReturn:
    """Run a recipe with the options of its command, show the result, and exit."""
    guarded(lambda: _run(recipe, given, names))


def guarded(run: Callable[[], ExitCode]) -> NoReturn:
    """Run and exit. An error is reported in one line."""
    said = ""
    _prepare_libraries()
    signals: list[int] = []
    _note_interrupts(signals)
    try:
        with Listener():
            code = run()
        streams.flush()
    except KeyboardInterrupt:
        code, said = ExitCode.INTERRUPTED, INTERRUPTED
    except BrokenPipeError:
        code = ExitCode.DONE
    except Exception as error:
        code, said = said_of(error)
    if said and signals:
        # Libraries turn Ctrl-C into errors of their own: DuckDB in a query, extension modules while they are imported.
        code, said = ExitCode.INTERRUPTED, INTERRUPTED
    if code is ExitCode.INTERRUPTED:
        from rollout_etl.publish import staging

        staging.discard()
    if said:
        TALK.error(said, code)
    with contextlib.suppress(OSError, WriteError):
        streams.flush()
    # Native threads may still use what Python would tear down; all files are closed by now.
    os._exit(int(code))


def said_of(error: Exception) -> tuple[ExitCode, str]:
    """The exit code and the message for an error."""
    if isinstance(error, RolloutETLError):
        return error.exit_code, str(error)
    if isinstance(error, OSError):
        return ExitCode.UNREADABLE, _of_the_system(error)
    if isinstance(error, MemoryError):
        return ExitCode.UNREADABLE, "out of memory; split the input into several runs"
    return ExitCode.INTERNAL, _internal(error)


def _note_interrupts(signals: list[int]) -> None:
    """Put each Ctrl-C into `signals`, and raise `KeyboardInterrupt` as usual."""

    def noted(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        signal.default_int_handler(number, frame)

    # A shell starts background jobs with Ctrl-C ignored, and they must keep ignoring it.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, noted)


def _of_the_system(error: OSError) -> str:
    said = error.strerror or str(error)
    return f"cannot use {os.fsdecode(error.filename)}: {said}" if isinstance(error.filename, str | bytes) else said


def _prepare_libraries() -> None:
    """Configure libraries, before they are imported, to be quiet and to use only what they need here."""
    # Warnings for developers are not shown to users; errors that follow from them are.
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    # NumPy starts a thread for each processor, for linear algebra that is never used here.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Polars returns large pieces of memory immediately, only to request them again for the next frame.
    os.environ.setdefault("_RJEM_MALLOC_CONF", "oversize_threshold:0,dirty_decay_ms:3000")
    # Importing makes many objects but no garbage.
    gc.set_threshold(20_000)


def parse_error(error: TyperException) -> str:
    """What is wrong with the options, in plain words."""
    return error.format_message().replace("Value error, ", "")


def _refuse_nemo_rl_options(given: dict[str, Any]) -> None:
    """Refuse options without effect: they would look as if they had worked."""
    if given["target"] != "nemo-rl":
        for name in ("format", "tool_call_style", "prompt_as", "with_rewards", "agent_name", "nemo_rl_layout"):
            if given.get(name):
                raise UsageError(f"--{name.replace('_', '-')} is for --target nemo-rl only" + ("; use --extra reward" if name == "with_rewards" else ""))


def _internal(error: Exception) -> str:
    """One line for an unexpected error. Python's own exit code, 1, would mean that there was nothing to write."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"internal error, please report it: {type(error).__name__} at {os.path.basename(frame.filename)}:{frame.lineno}: {first_line(error)[:200]}"


def use_threads(threads: int | None) -> None:
    """Let Polars use so many threads, all if None. It looks when it is imported."""
    if threads is not None:
        os.environ["POLARS_MAX_THREADS"] = str(threads)


def run_of(recipe: str, given: dict[str, Any], names: Sequence[str]) -> Run:
    """The run that the options of a recipe's command ask for; `names` are those that the recipe itself declares.

    Raises `UsageError` for options that are missing or have no effect.
    """
    inputs = [*(given["inputs"] or []), *(given["input"] or [])]
    if not inputs:
        raise UsageError("no input given: name files, folders or globs")
    if not given["output"]:
        raise UsageError("no output given: name it with -o FILE")
    use_threads(given["threads"])

    from rollout_etl.bounded.memory import limit_of
    from rollout_etl.cli.curation import curation_of
    from rollout_etl.read.canonical import Lookup
    from rollout_etl.recipes.options import RECIPES
    from rollout_etl.run.execute import Run

    given = {name: str(value) if isinstance(value, StrEnum) else value for name, value in given.items()}
    _refuse_nemo_rl_options(given)
    # None means the default of the recipe.
    stated = {name: given[name] for name in names if given[name] is not None}
    return Run(
        inputs=inputs,
        output=Path(given["output"]),
        options=RECIPES[recipe](keep=tuple(given["keep"] or ()), drop=tuple(given["drop"] or ()), seed=given["seed"], **stated),
        target=given["target"],
        think=given["think"],
        form=given["form"],
        arguments=given["arguments"],
        extra=given["extra"] or (),
        mapping=given["map"] or (),
        token_ids=given["token_ids"],
        lookup=Lookup.spelt(given["ground_truth_field"], given["group_by"]),
        curation=curation_of(given),
        task_inputs=given["task_inputs"],
        quarantine=given["quarantine"],
        max_bad_fraction=given["max_bad_fraction"],
        config=not given["no_config"],
        layout=given["nemo_rl_layout"] or "current",
        threads=given["threads"],
        memory_limit=None if given["memory_limit"] is None else limit_of(given["memory_limit"]),
        temp_dir=given["temp_dir"],
        engine=given["engine"],
        ray_address=given["ray_address"],
        sharding=_sharding(given),
        dry_run=given["dry_run"],
    )


def _sharding(given: dict[str, Any]) -> Sharding | None:
    """How the output is divided into shards; a slash at the end of its name makes it a folder."""
    from rollout_etl.publish.outputs import Sharding

    ways = [f"--{name.replace('_', '-')}" for name in ("shards", "shard_size", "shard_rows") if given[name] is not None]
    if len(ways) > 1:
        raise UsageError(f"{ways[0]} and {ways[1]} cannot be combined")
    if given["shard_rows"] is not None:
        return Sharding(rows=given["shard_rows"])
    if given["shards"] is not None:
        return Sharding(count=given["shards"])
    if given["shard_size"] is None and not str(given["output"]).endswith("/"):
        return None
    return Sharding(size=bytes_of("--shard-size", given["shard_size"] or "256MB"))


def _run(recipe: str, given: dict[str, Any], names: Sequence[str]) -> ExitCode:
    run = run_of(recipe, given, names)

    from rollout_etl.cli.summary import show
    from rollout_etl.run.execute import execute

    report = execute(run)
    if TALK.format is LogFormat.json:
        TALK.event("report", **report.to_json())
    elif not given["quiet"]:
        show(report)
    if given["json"]:
        print(json.dumps(report.to_json(), ensure_ascii=False), flush=True)
    if not report.written:
        state = f"{run.output} is unchanged" if os.path.exists(run.output) else f"{run.output} was not created"
        TALK.error(f"nothing to write; {state}", ExitCode.NOTHING_TO_WRITE)
        return ExitCode.NOTHING_TO_WRITE
    return ExitCode.DONE
