#!/usr/bin/env python
"""Answers a second and memory of TRL's PPOTrainer, which left TRL after 1.12: run by `benchmarks/ppo.py --peer-python`.

    PYTHON benchmarks/ppo_peer.py POLICY REWARD_MODEL PROMPTS.jsonl SIZE TOKENS STEPS LEARNING_RATE

PYTHON belongs to an environment of its own with trl 1.12; nothing of Preferee is imported. PPO as ours is measured: 4
minibatches, 2 epochs, a critic that begins as the reward model. The first step does not count. The last line is JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

import torch
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_end(self, *_arguments: Any, **_more: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks.append(time.perf_counter())


def main() -> None:
    policy, reward_model, prompts = sys.argv[1:4]
    size, tokens, steps = map(int, sys.argv[4:7])
    gpu = torch.cuda.is_available()
    tokenizer = AutoTokenizer.from_pretrained(policy, padding_side="left")
    with open(prompts, encoding="utf-8") as file:
        turns = [json.loads(line)["prompt"] for line in file]
    texts = [tokenizer.apply_chat_template(own, tokenize=False, add_generation_prompt=True) for own in turns]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    rows = [{"input_ids": own} for own in ids if len(own) + tokens <= 1024]

    def read_scorer() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(reward_model, num_labels=1)

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = PPOTrainer(
            args=PPOConfig(
                output_dir=folder, per_device_train_batch_size=size // 4, gradient_accumulation_steps=4,
                num_mini_batches=4, num_ppo_epochs=2, total_episodes=steps * size, response_length=tokens,
                learning_rate=float(sys.argv[7]), temperature=1.0, stop_token="eos", bf16=gpu, use_cpu=not gpu,
                gradient_checkpointing=False, num_sample_generations=0, save_strategy="no", report_to=[],
                local_rollout_forward_batch_size=min(size, 64),  # TRL's default
            ),
            processing_class=tokenizer,
            model=AutoModelForCausalLM.from_pretrained(policy),
            ref_model=AutoModelForCausalLM.from_pretrained(policy),
            reward_model=read_scorer(),
            value_model=read_scorer(),
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(rows[:size]),
            callbacks=[clock],
        )  # fmt: skip
        trainer.train()
    seconds = (clock.marks[-1] - clock.marks[0]) / (len(clock.marks) - 1)
    peak = torch.cuda.max_memory_allocated() / 2**30 if gpu else float("nan")
    print(json.dumps({"side": f"TRL {trl.__version__}'s PPOTrainer", "answers_a_second": size / seconds, "gib": peak}))


if __name__ == "__main__":
    main()
