"""Runs inside OpenRLHF's environment: load a file as its scripts do, with the flags of the run file, and write down what comes.

    with_openrlhf.py rows RECIPE RUN.sh RESULT.json    rows as loaded, and the texts that the dataset class prepared
    with_openrlhf.py run RECIPE RUN.sh RESULT.json     the flags through the parser of OpenRLHF's own script

The only stand-in is for its DeepSpeed strategy.
"""

import argparse
import ast
import importlib.util
import json
import shlex
import sys
from datetime import datetime
from types import SimpleNamespace

import tiny


def flags(file):
    """Module and flags of the command in a run file."""
    with open(file) as script:
        text = script.read().replace("\\\n", " ")
    words = shlex.split(text[text.index("openrlhf.cli.") :])
    return words[0], [word for word in words[1:] if word != "$@"]


def parsed(file):
    """The flags through the parser that stands in the script's main block, which importing does not run."""
    module, given = flags(file)
    spec = importlib.util.find_spec("openrlhf")
    with open(f"{spec.submodule_search_locations[0]}/cli/{module.rsplit('.', 1)[1]}.py") as source:
        tree = ast.parse(source.read())
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'")
    names = {"argparse": argparse, "datetime": datetime}
    for statement in block.body:
        if "parse_args" in ast.unparse(statement):
            break
        exec(compile(ast.Module([statement], []), "main", "exec"), names)
    from openrlhf.utils.config import hierarchize

    return hierarchize(names["parser"].parse_args(given))


def rows(recipe, file):
    import openrlhf.datasets as kinds
    from openrlhf.datasets.utils import blending_datasets

    args = parsed(file)
    tokens = tiny.tokenizer()
    strategy = SimpleNamespace(args=args, print=lambda *said: None, is_rank_0=lambda: False)
    online = recipe in ("grpo", "ppo")
    data = blending_datasets(args.data.prompt_dataset if online else args.data.dataset, None, strategy, 42, max_count=10**6, dataset_split="train")
    loaded = list(data)
    if online:
        made = kinds.PromptDataset(data, tokens, strategy, input_template=args.data.input_template)
        prepared = [[made[i][1], made[i][2]] for i in range(len(made))]
    elif recipe == "sft":
        options = {"input_template": args.data.input_template, "num_processors": 1, "multiturn": args.data.multiturn}
        made = kinds.SFTDataset(data, tokens, 10**9, strategy, **options)
        prepared = []
        for ids, _, mask in (made[i] for i in range(len(made))):
            prepared.append([tokens.decode(ids[0]), tokens.decode([ids[0][t + 1] for t in range(len(ids[0]) - 1) if mask[0][t] > 0])])
    else:
        made = kinds.RewardDataset(data, tokens, 10**9, strategy, input_template=args.data.input_template, num_processors=1, is_dpo=recipe == "dpo")
        prepared = [[tokens.decode(made[i][0][0]), tokens.decode(made[i][2][0])] for i in range(len(made))]
    return {"rows": loaded, "prepared": prepared}


def run(recipe, file):
    args = parsed(file)
    return {"batch": args.train.batch_size, "data": vars(args.data)}


if __name__ == "__main__":
    what, recipe, file, result = sys.argv[1:]
    with open(result, "w") as out:
        json.dump({"rows": rows, "run": run}[what](recipe, file), out, default=str)
