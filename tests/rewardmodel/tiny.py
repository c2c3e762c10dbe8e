"""A tiny Llama with a chat template, built in code in a fraction of a second, and tiny data to train it on.

The app's tests use it too: `from tests.rewardmodel.tiny import build_tiny_model`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "one",
    "red",
    "bird",
    "near",
    "some",
    "green",
    "trees",
    "while",
    "rain",
    "fell",
    "softly",
]
# The word that decides every tiny preference.
GOOD_WORD = "thanks"
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def build_tiny_model(directory: Path, *, seed: int = 0, positions: int = 256) -> Path:
    """Write a 2-layer Llama of about 100,000 parameters, with its tokenizer, as a plain model directory."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS), f"{GOOD_WORD} system user assistant"] * 20, trainer=trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        eos_token_id=fast.eos_token_id,
        bos_token_id=None,
        pad_token_id=fast.pad_token_id,
        tie_word_embeddings=True,
    )
    directory.mkdir(parents=True, exist_ok=True)
    LlamaForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


def build_pairs(n: int, *, seed: int = 0, pairs_a_prompt: int = 2) -> list[dict[str, Any]]:
    """n pairs in which the chosen response holds GOOD_WORD and both sides have as many words."""
    generator = random.Random(seed)
    rows: list[dict[str, Any]] = []
    while len(rows) < n:
        prompt = [{"role": "user", "content": " ".join(generator.choices(WORDS, k=5))}]
        for _ in range(min(pairs_a_prompt, n - len(rows))):
            chosen, rejected = (generator.choices(WORDS, k=6) for _ in range(2))
            chosen[generator.randrange(6)] = GOOD_WORD
            rows.append({"prompt": prompt, "chosen": _say(chosen), "rejected": _say(rejected)})
    return rows


def build_examples(n: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """n rows to imitate: the better sides of `build_pairs`."""
    return [{"prompt": row["prompt"], "completion": row["chosen"]} for row in build_pairs(n, seed=seed)]


def build_labelled(n: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """n rows, of which every other holds GOOD_WORD and is labelled true."""
    rows = []
    for pair in build_pairs((n + 1) // 2, seed=seed):
        for side, label in (("chosen", True), ("rejected", False)):
            rows.append({"prompt": pair["prompt"], "completion": pair[side], "label": label})
    return rows[:n]


def build_data(directory: Path, *, train: int = 64, test: int = 40) -> Path:
    """A data directory with train.jsonl and test.jsonl of different prompts."""
    write_rows(directory / "train.jsonl", build_pairs(train, seed=1))
    write_rows(directory / "test.jsonl", build_pairs(test, seed=2))
    return directory


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _say(words: list[str]) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": " ".join(words)}]
