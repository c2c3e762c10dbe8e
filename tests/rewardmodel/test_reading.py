"""Packed reading against padded reading: the same rewards and gradients, shared beginnings read once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rewardmodel.compute import Compute
from rewardmodel.groups import Edge, Group
from rewardmodel.models import create_reward_model, load_tokenizer
from rewardmodel.reading import (
    Gather,
    build_rectangle,
    build_row,
    can_pack,
    dense_mask,
    find_blocks,
    find_last,
    read_rewards,
)

CPU = Compute(device="cpu", precision="fp32")


@pytest.fixture
def model(tiny_model: Path) -> Any:
    return create_reward_model(tiny_model, tokenizer=load_tokenizer(tiny_model), compute=CPU, seed=0)


def make_group(prompt: list[int], *ends: list[int]) -> Group:
    edges = [Edge(i, j) for i in range(len(ends)) for j in range(i + 1, len(ends))]
    return Group("p", [prompt + end for end in ends], len(prompt), len(prompt), edges, [])


def random_groups() -> list[Group]:
    """Groups of 2, 4 and 9 responses of different lengths, and one of a single response, which shares nothing."""
    generator = np.random.default_rng(0)

    def draw(n: int) -> list[int]:
        return generator.integers(3, 250, size=n).tolist()

    groups = [make_group(draw(12), *(draw(int(n)) for n in generator.integers(1, 30, size=k))) for k in (2, 4, 9)]
    return [*groups, Group("q", [draw(7)], 3, 0, [], [])]


def read_both_ways(model: Any, *, groups: list[Group], **settings: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(rewards, gradient of a weighted sum of them), padded and packed."""
    sequences = [ids for group in groups for ids in group.sequences]
    found = []
    for read in (
        lambda: read_rewards(model, batch=build_rectangle(sequences, pad_id=0, device="cpu")),
        lambda: read_rewards(model, batch=build_row(groups, pad_id=0, device="cpu", **settings)),
    ):
        model.zero_grad()
        rewards = read()
        (rewards * torch.linspace(-1, 1, len(rewards))).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((rewards.detach(), gradient))
    return found


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("filled", [True, False])
def test_packed_rewards_and_gradients_are_the_padded_ones(model: Any, share: bool, filled: bool) -> None:
    sizes = {"length": 640, "stretches": 40, "key_count": 1024, "copy_count": 12, "longest": 64} if filled else {}
    padded, packed = read_both_ways(model, groups=random_groups(), share=share, **sizes)
    assert torch.allclose(packed[0], padded[0], atol=1e-5)
    assert torch.allclose(packed[1], padded[1], atol=1e-5)


def test_a_row_is_shorter_than_its_conversations_by_what_they_share() -> None:
    """A prompt of 3 with ends of 1 and 2: 6 tokens in place of 9. The longer stands first, whole; the other begins at
    position 3 again and sees the prompt and itself."""
    row = build_row([make_group([5, 6, 7], [10], [8, 9])], pad_id=0, device="cpu")
    assert row.ids.tolist() == [[5, 6, 7, 8, 9, 10]]
    assert row.positions.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert row.reads.tolist() == [5, 4]
    assert (row.starts_q.tolist(), row.starts_k.tolist()) == ([0, 5, 6], [0, 5, 9])
    assert row.keys.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 5]
    assert row.copies.tolist() == [[0, 5], [1, 6], [2, 7], [3, -1], [4, -1], [8, -1]]


def test_the_mask_lets_an_end_see_its_prompt_and_itself_alone() -> None:
    row = build_row([make_group([5, 6], [8, 9], [10])], pad_id=0, device="cpu")
    assert dense_mask(row)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_the_gathered_gradient_is_that_of_indexing_and_ignores_what_fills_up() -> None:
    row = build_row(random_groups(), pad_id=0, device="cpu", length=400, key_count=900)
    values = torch.randn(400, 2, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(900, 2, 3, dtype=torch.float64)
    used = int(row.starts_k[-1])
    (plain,) = torch.autograd.grad((values[row.keys][:used] * weights[:used]).sum(), values)
    weights[used:] = torch.nan  # what the kernel leaves in places it never wrote
    (ours,) = torch.autograd.grad(Gather.apply(values, row.keys, row.copies), values, weights)
    assert torch.allclose(ours, plain)


def test_the_place_read_is_the_last_that_is_no_padding() -> None:
    """As transformers' classifiers choose it, also where the padding token ends the template."""
    assert [find_last(ids, pad_id=0) for ids in ([4, 5], [4, 5, 0], [0, 0])] == [1, 1, 0]


def test_scores_are_those_of_transformers_itself(model: Any) -> None:
    batch = build_rectangle([[5, 6, 7], [8, 9, 0]], pad_id=0, device="cpu")
    plain = model(input_ids=batch.ids, attention_mask=batch.mask).logits.squeeze(-1)
    assert torch.allclose(read_rewards(model, batch=batch), plain, atol=1e-6)


def test_a_window_of_attention_is_read_padded(model: Any) -> None:
    assert can_pack(model) is None
    model.model.config.sliding_window = 128
    assert can_pack(model) == "LlamaModel attends within a window"


def test_the_repeated_layers_are_found(model: Any) -> None:
    assert len(find_blocks(model)) == 2
