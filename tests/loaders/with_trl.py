"""Runs inside TRL's environment: load a file as TRL's scripts do, prepare it with the recipe's trainer, and write down both.

    with_trl.py rows RECIPE FILE RESULT.json       rows as loaded, and the texts that the trainer prepared
    with_trl.py run RECIPE RUN.yaml RESULT.json    the run file through TrlParser
"""

import importlib
import json
import sys

import tiny


def rows(recipe, file):
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

    data = load_dataset("parquet" if file.endswith(".parquet") else "json", data_files=file, split="train")
    loaded = list(data)
    tokens = tiny.tokenizer()
    usual = {"output_dir": tiny.SCRATCH, "report_to": "none", "use_cpu": True, "bf16": False, "max_steps": 1, "save_strategy": "no"}
    rest = {"train_dataset": data, "processing_class": tokens}
    model = tiny.model(tokens, scores=recipe == "rm")
    if recipe == "grpo":
        config = GRPOConfig(**usual, per_device_train_batch_size=2, num_generations=2, max_completion_length=2)
        trainer = GRPOTrainer(model=model, reward_funcs=lambda completions, **columns: [0.0] * len(completions), args=config, **rest)
        ids = trainer._tokenize_prompts([row["prompt"] for row in loaded])
        prepared = [[tokens.decode(one)] for one in (ids[0] if isinstance(ids, tuple) else ids)]
        return {"rows": loaded, "prepared": prepared}
    if recipe == "sft":
        config = SFTConfig(**usual, max_length=None, assistant_only_loss=isinstance(loaded[0]["prompt"], list))
        made = SFTTrainer(model=model, args=config, **rest).train_dataset
        prepared = [[tokens.decode(row["input_ids"]), tokens.decode([token for token in row["labels"] if token != -100])] for row in made]
    elif recipe == "rm":
        made = RewardTrainer(model=model, args=RewardConfig(**usual, max_length=None), **rest).train_dataset
        prepared = [[tokens.decode(row["chosen_ids"]), tokens.decode(row["rejected_ids"])] for row in made]
    else:
        config, trainer, sides = (DPOConfig, DPOTrainer, ("chosen_ids", "rejected_ids")) if recipe == "dpo" else (KTOConfig, KTOTrainer, ("completion_ids",))
        made = trainer(model=model, ref_model=tiny.model(tokens), args=config(**usual, max_length=None), **rest).train_dataset
        prepared = [[tokens.decode(row["prompt_ids"] + row[side]) for side in sides] for row in made]
    return {"rows": loaded, "prepared": prepared}


def run(recipe, file):
    script = importlib.import_module(f"trl.scripts.{ {'rm': 'reward'}.get(recipe, recipe) }")
    asked, training, model, data = script.make_parser().parse_args_and_config(["--config", file, "--use_cpu", "true", "--bf16", "false"])
    names = ("per_device_train_batch_size", "max_length", "assistant_only_loss", "desirable_weight", "undesirable_weight", "num_generations", "eval_strategy")
    found = {name: str(getattr(training, name)) for name in names if hasattr(training, name)}
    return {**found, "model": model.model_name_or_path, "files": [one.data_files for one in data.datasets], "dataset_name": asked.dataset_name}


if __name__ == "__main__":
    what, recipe, file, result = sys.argv[1:]
    with open(result, "w") as out:
        json.dump({"rows": rows, "run": run}[what](recipe, file), out)
