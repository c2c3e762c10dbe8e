#!/usr/bin/env python
"""Tokens a second of sampling with recorded kernels beside transformers' `generate`, on one GPU.

    benchmarks/generation.py PROMPTS.jsonl [--model MODEL] [--prompts 256] [--tokens 128] [--batch 128] [--repeats 3]

PROMPTS.jsonl has rows {prompt}. Both sides answer the same prompts in the same batches by turns, after one untimed turn
each; both draw from the same copy in bfloat16 of float32 weights, as in training. Before that, greedy answers in
float32 are compared: both sides must write the same tokens, else the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from rewardmodel import generate
from rewardmodel.compute import Compute, resolve_compute
from rewardmodel.contract import EMBEDDED_MODEL
from rewardmodel.data import read_prompts
from rewardmodel.generate import Response, Sampling, generate_responses
from rewardmodel.models import load_policy, load_tokenizer, resolve_model

SIDES = {"recorded": True, "transformers' generate": False}
COMPARED = 32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    compute = resolve_compute("cuda", precision="auto")
    directory = resolve_model(options.model)
    tokenizer = load_tokenizer(directory)
    model = load_policy(directory, tokenizer=tokenizer, compute=compute, dtype=torch.float32)
    prompts = [item.prompt for item in read_prompts(options.file)[: options.prompts]]
    drawn = Sampling(max_new_tokens=options.tokens, temperature=1.0, top_p=1.0, batch_size=options.batch)

    def answer(side: str, *, sampling: Sampling, count: int, compute: Compute) -> list[Response]:
        known: Any = generate.can_record if SIDES[side] else lambda *_model, **_more: False
        with mock.patch.object(generate, "can_record", known):
            return generate_responses(
                model, tokenizer=tokenizer, prompts=prompts[:count], sampling=sampling, compute=compute
            )

    greedy, plain = replace(drawn, temperature=0.0), replace(compute, precision="fp32")
    said = [
        [response.ids for response in answer(side, sampling=greedy, count=COMPARED, compute=plain)] for side in SIDES
    ]
    same = sum(ours == theirs for ours, theirs in zip(*said, strict=True))
    print(f"greedy answers in float32: {same} of {len(said[0])} the same")
    speeds: dict[str, list[float]] = {side: [] for side in SIDES}
    for turn in range(options.repeats + 1):
        for side in SIDES:
            torch.cuda.synchronize()
            began = time.perf_counter()
            made = answer(side, sampling=drawn, count=len(prompts), compute=compute)
            torch.cuda.synchronize()
            if turn:
                speeds[side].append(sum(response.n_tokens for response in made) / (time.perf_counter() - began))
    medians = {side: float(np.median(values)) for side, values in speeds.items()}
    for side, speed in medians.items():
        print(f"{side:<24} {speed:>10,.0f} tokens/s")
    first, second = medians.values()
    print(f"{first / second:.2f} times as fast")
    return int(same < len(said[0]))


if __name__ == "__main__":
    sys.exit(main())
