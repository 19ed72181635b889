"""A tokenizer of bytes and a model of one layer, for the scripts that run inside the trainers' environments.

The vocabulary is the 256 bytes and a few special tokens, without merges: decoding gives back every text that was encoded.
"""

import os
import tempfile

for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TRL_EXPERIMENTAL_SILENCE"):
    os.environ[name] = "1"
os.environ |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error"}
SCRATCH = tempfile.mkdtemp(prefix="loaders_")
os.environ |= {"HF_HOME": SCRATCH, "HF_DATASETS_CACHE": os.path.join(SCRATCH, "datasets")}

TEMPLATE = r"""{%- if tools %}{{- '<|im_start|>system\n' + tools | tojson + '<|im_end|>\n' }}{%- endif %}
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' }}
{%- if m.role == 'assistant' %}{% generation %}
{%- if m.reasoning_content is defined and m.reasoning_content %}{{- '<think>' + m.reasoning_content + '</think>' }}{%- endif %}
{{- m.content }}
{%- for call in m.tool_calls or [] %}{{- '<call>' + call.function.name + ' ' + call.function.arguments | tojson + '</call>' }}{%- endfor %}
{{- '<|im_end|>' }}{% endgeneration %}{%- else %}{{- m.content + '<|im_end|>' }}{%- endif %}{{- '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"""

_THOUGHT = "{%- if m.reasoning_content is defined and m.reasoning_content %}{{- '<think>' + m.reasoning_content + '</think>' }}{%- endif %}"
HIDING = (
    "{%- set ns = namespace(last=messages | length - 1) %}"
    "{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    + TEMPLATE.replace(_THOUGHT, "{%- if loop.index0 > ns.last and (loop.last or m.reasoning_content) %}{{- '<think>' + (m.reasoning_content or '') + '</think>' }}{%- endif %}")
)
"""As Qwen3's template does, it shows reasoning after the last question only, and gives the last message an empty thought."""


def tokenizer(template=TEMPLATE):
    """A fast tokenizer with a template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bare = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bare.decoder = decoders.ByteLevel()
    bare.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ("<|im_start|>", "<|im_end|>", "<pad>")])
    made = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|im_end|>", pad_token="<pad>", clean_up_tokenization_spaces=False)
    made.chat_template = template
    return made


def model(tokens, *, scores=False):
    """A random model of one layer; with `scores`, one that scores a text."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
        max_position_embeddings=262144, tie_word_embeddings=True, pad_token_id=tokens.pad_token_id, eos_token_id=tokens.eos_token_id, bos_token_id=None,
    )
    config.name_or_path = config._name_or_path = "tiny"
    if scores:
        config.num_labels = 1
        return Qwen2ForSequenceClassification(config)
    return Qwen2ForCausalLM(config)
