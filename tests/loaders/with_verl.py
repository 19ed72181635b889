"""Runs inside verl's environment: load a file with verl's own dataset class, and write down what it is given and what it makes.

    with_verl.py rows RECIPE FILE RESULT.json [CLASS.py [hiding]]    rows, and the texts that the dataset class prepared
    with_verl.py run RECIPE RUN.yaml RESULT.json                     the run file through Hydra
"""

import json
import os
import sys

import tiny


def rows(recipe, file, custom=None, template=""):
    from omegaconf import OmegaConf
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
    from verl.utils.dataset.rl_dataset import RLHFDataset
    from verl.utils.dataset.rm_dataset import RMDataset
    from verl.utils.import_utils import load_extern_object

    tokens = tiny.tokenizer(tiny.HIDING if template == "hiding" else tiny.TEMPLATE)
    if recipe == "rm":
        data = RMDataset([file], tokens, max_length=512)
        return {"rows": [list(row) for row in zip(data.prompts, data.chosen_responses, data.rejected_responses, strict=True)], "prepared": []}
    if recipe == "sft":
        kind = load_extern_object(os.path.abspath(custom), "RolloutSFTDataset") if custom else MultiTurnSFTDataset
        data = kind([file], tokens, OmegaConf.create({"pad_mode": "no_padding", "max_length": 10**9, "messages_key": "messages", "tools_key": "tools"}))
        prepared = [
            [tokens.decode(row["input_ids"]), tokens.decode(row["input_ids"][row["loss_mask"].bool()])] for row in (data[i] for i in range(len(data)))
        ]
        return {"rows": [[messages, tools] for messages, tools in zip(data.messages, data.tools or [None] * len(data), strict=True)], "prepared": prepared}
    settings = {"cache_dir": tiny.SCRATCH, "prompt_key": "prompt", "max_prompt_length": 10**9, "filter_overlong_prompts": True, "return_raw_chat": True}
    data = RLHFDataset(data_files=file, tokenizer=tokens, config=OmegaConf.create({**settings, "filter_overlong_prompts_workers": None}))
    found = [data[i] for i in range(len(data))]
    kept = ("data_source", "raw_prompt", "reward_model", "extra_info", "index")
    prepared = [[tokens.apply_chat_template(row["raw_prompt"], add_generation_prompt=True, tokenize=False)] for row in found]
    return {"rows": [{name: row[name] for name in kept} for row in found], "prepared": prepared}


def run(recipe, file, custom=None):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(os.path.dirname(os.path.abspath(file)), version_base=None):
        made = compose(os.path.basename(file).removesuffix(".yaml"))
        OmegaConf.resolve(made)
    return {"train_files": made.data.train_files, "val_files": made.data.val_files, "batch": made.data.train_batch_size, "class": dict(made.data.custom_cls)}


if __name__ == "__main__":
    what, recipe, file, result, *custom = sys.argv[1:]
    with open(result, "w") as out:
        json.dump({"rows": rows, "run": run}[what](recipe, file, *custom), out)
