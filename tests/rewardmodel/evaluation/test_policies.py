"""Win rates, lengths and diversity on numbers; the divergence of two models on a model small enough to sum by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rewardmodel.compute import resolve_compute
from rewardmodel.evaluate import compare_distributions
from rewardmodel.evaluation.diversity import distinct_share, self_bleu
from rewardmodel.evaluation.win_rates import cross_responses, describe_lengths, describe_wins
from rewardmodel.generate import Sampling, generate_responses
from rewardmodel.models import load_policy, load_tokenizer
from tests.rewardmodel.tiny import build_tiny_model


def test_a_prompt_counts_once_and_a_tie_half() -> None:
    """a: 2 and 0 against 1 and 0: wins 1, 1, 0, 1/2: 5/8. b: 1 against 2: 0. c: no score: left out. Mean 5/16."""
    found = describe_wins(
        cross_responses(
            [[2.0, 0.0], [1.0], []],
            reference_scores=[[1.0, 0.0], [2.0], [1.0]],
            lengths=[[5, 6], [7], []],
            reference_lengths=[[5, 5], [9], [3]],
            prompt_ids=["a", "b", "c"],
        )
    )
    assert (found["prompts"], found["win_rate"]) == (2, pytest.approx(5 / 16))


def test_differences_of_length_stand_beside_their_comparison() -> None:
    found = cross_responses(
        [[2.0, 0.0]], reference_scores=[[1.0]], lengths=[[8, 3]], reference_lengths=[[5]], prompt_ids=["a"]
    )
    assert (found.wins.tolist(), found.differences.tolist(), found.weights.tolist()) == ([1, 0], [3, -2], [0.5, 0.5])


def test_nothing_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="no prompt has a scored response"):
        cross_responses([[]], reference_scores=[[1.0]], lengths=[[]], reference_lengths=[[1]], prompt_ids=["a"])


def test_the_ratio_of_lengths_is_one_of_means() -> None:
    """(10 + 30) / (20 + 20) = 1."""
    found = describe_lengths(np.asarray([10.0, 30.0]), reference_tokens=np.asarray([20.0, 20.0]), prompt_ids=["a", "b"])
    assert (found["policy"], found["reference"], found["ratio"]) == (20, 20, 1)


def test_distinct_words_by_hand() -> None:
    """a b a and b: {a, b} of 4; pairs ab, ba: 2 of 2."""
    assert distinct_share(["A b a", "b"], n=1) == 0.5
    assert distinct_share(["A b a", "b"], n=2) == 1.0
    assert distinct_share(["", ""], n=1) is None


def test_equal_texts_have_a_self_bleu_of_one_and_unlike_ones_of_zero() -> None:
    assert self_bleu(["the cat sat on a mat"] * 3) == pytest.approx(1)
    assert self_bleu(["the cat sat", "rain fell down"]) == 0
    assert self_bleu(["alone"]) is None
    assert self_bleu(["", ""]) == 1


def test_self_bleu_by_hand() -> None:
    """ "a b" against "a c": 1-grams 1/2; of 2 to 4 none match: (0 + 1) / (1 + 1), and of 3, 4 there are none: 1/1.

    (1/2 * 1/2 * 1 * 1)^(1/4) = 0.7071; both lengths are equal, and so are both directions."""
    assert self_bleu(["a b", "a c"]) == pytest.approx(0.25**0.25)


def test_a_text_shorter_than_the_others_pays_for_it() -> None:
    """ "a b c d" against itself with four more words: precisions 1, brevity exp(1 - 8/4)."""
    short, long = "a b c d", "a b c d e f g h"
    words = self_bleu([short, long, long])
    alone = self_bleu([long, short])
    assert words is not None
    assert alone is not None
    assert words > alone


def test_the_divergence_of_two_models_is_that_of_their_distributions(tmp_path: Path, tiny_model: Path) -> None:
    """Against a sum by hand over the vocabulary, position by position; a model has none from itself."""
    compute = resolve_compute("cpu", precision="fp32", threads=1)
    tokenizer = load_tokenizer(tiny_model)
    other = build_tiny_model(tmp_path / "other", seed=5)
    policy, reference = (
        load_policy(place, tokenizer=tokenizer, compute=compute, dtype=torch.float32) for place in (tiny_model, other)
    )
    texts = [((5, 6, 7), (8, 9)), ((5, 6), (10, 11, 12, 13)), ((9,), (4,))]
    found = compare_distributions(policy, reference=reference, texts=texts, compute=compute, batch_tokens=8)
    for row, (prompt, end) in zip(found, texts, strict=True):
        ids = torch.tensor([[*prompt, *end]])
        with torch.inference_mode():
            ours, theirs = (model(input_ids=ids).logits[0].log_softmax(1) for model in (policy, reference))
        ratio = exact = entropy = 0.0
        for place, token in enumerate(end, start=len(prompt) - 1):
            ratio += float(ours[place, token] - theirs[place, token])
            exact += float((ours[place].exp() * (ours[place] - theirs[place])).sum())
            entropy -= float((ours[place].exp() * ours[place]).sum())
        assert row == pytest.approx([ratio, exact, entropy], abs=1e-4)
    same = compare_distributions(policy, reference=policy, texts=texts, compute=compute)
    assert same[:, :2] == pytest.approx(np.zeros((3, 2)), abs=1e-6)


def test_the_two_estimates_of_the_divergence_agree_on_samples(tmp_path: Path, tiny_model: Path) -> None:
    """Both have the mean KL(policy || reference); the exact one spreads less. 96 samples of up to 8 tokens."""
    compute = resolve_compute("cpu", precision="fp32", threads=1)
    tokenizer = load_tokenizer(tiny_model)
    policy, reference = (
        load_policy(place, tokenizer=tokenizer, compute=compute, dtype=torch.float32)
        for place in (tiny_model, build_tiny_model(tmp_path / "other", seed=5))
    )
    with torch.no_grad():
        policy.get_input_embeddings().weight.mul_(6)  # sharper, so that there is something to diverge
    responses = generate_responses(
        policy,
        tokenizer=tokenizer,
        prompts=[[{"role": "user", "content": "the cat"}]],
        sampling=Sampling(n=96, max_new_tokens=8, temperature=1, top_p=1, batch_size=96),
        compute=compute,
    )
    assert all(len(response.ids) == response.n_tokens for response in responses)
    found = compare_distributions(
        policy, reference=reference, texts=[(r.prompt_ids, r.ids) for r in responses], compute=compute
    )
    error = found[:, 0].std() / math.sqrt(len(found))
    assert found[:, 0].mean() == pytest.approx(found[:, 1].mean(), abs=4 * error)
    assert found[:, 1].std() < found[:, 0].std()
