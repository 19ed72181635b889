"""verl dataset class for SFT files whose columns `messages` and `tools` hold JSON text.

JSON text keeps arguments and schemas as they are; structs would be filled with nulls. Conversations are rendered as a whole, as they
are at inference: message by message, templates such as Qwen3's hide reasoning, and Llama 3.1's loses tools. Named in the run file
as data.custom_cls.
"""

import json

import pandas as pd
import torch
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset


class RolloutSFTDataset(MultiTurnSFTDataset):
    def _read_files_and_process(self):
        super()._read_files_and_process()
        frame = self.dataframe.reset_index(drop=True)
        self.messages = [json.loads(text) for text in frame[self.messages_key]]
        self.tools = [json.loads(text) if isinstance(text, str) else None for text in frame[self.tools_key]]
        frame[self.messages_key] = pd.Series(self.messages, dtype=object)
        self.dataframe = frame.drop(columns=[self.tools_key])

    def _process_single_message(self, index, message, full_message, tools=None, enable_thinking=None):
        # Tools come with the first message only.
        if index == 0:
            self._whole = self._tokens_by_message(full_message, tools, enable_thinking)
        if self._whole is None:
            return super()._process_single_message(index, message, full_message, tools, enable_thinking)
        tokens = torch.tensor(self._whole[index], dtype=torch.long)
        loss_mask = torch.full_like(tokens, int(message["role"] == "assistant"))
        return tokens, loss_mask, torch.ones_like(tokens), {}

    def _tokens_by_message(self, messages, tools, enable_thinking):
        """Tokens of the whole conversation, divided at the ends of the assistant's messages and of what stands before them.

        None where the template renders the start of a conversation in another way once it goes on.
        """
        if self.processor is not None or not self.tokenizer.is_fast or messages[-1]["role"] != "assistant" or messages[0]["role"] == "assistant":
            return None
        options = {**self.apply_chat_template_kwargs, **({} if enable_thinking is None else {"enable_thinking": enable_thinking})}

        def rendered(part, **more):
            return self.tokenizer.apply_chat_template(part, tools=tools, tokenize=False, **options, **more)

        whole = rendered(messages)
        answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        starts = [rendered(messages[:number], add_generation_prompt=True) for number in answers]
        if not all(whole.startswith(start) for start in starts):
            return None
        # What closes the last message closes each: whatever stands after an answer with another end.
        other = [*messages[:-1], {"role": "assistant", "content": "."}]
        closing = rendered(other).rpartition(".")[2]
        ends = [whole.find(closing, len(start)) + len(closing) for start in starts]
        limits = [0]
        for start, end in zip(starts, ends, strict=True):
            limits += [len(start), end]
        if not closing or limits != sorted(limits) or ends[-1] != len(whole):
            return None
        encoded = self.tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        pieces = [[] for _ in messages]
        bounds = iter(zip(answers, starts, ends, strict=True))
        answer, start, end = next(bounds)
        for token, (first, _) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            while first >= end and end < len(whole):
                answer, start, end = next(bounds)
            # What stands before an answer goes to the message before it, its generation prompt too.
            pieces[answer if first >= len(start) else answer - 1].append(token)
        return pieces
