import json
import shutil
from pathlib import Path

import pytest

from rewardmodel.chat import encode_conversation, encode_pair, encode_split
from rewardmodel.compute import Compute
from rewardmodel.contract import Message
from rewardmodel.data import Pair, read_pairs
from rewardmodel.models import (
    ModelError,
    create_reward_model,
    load_reward_model,
    load_tokenizer,
    resolve_model,
)
from rewardmodel.rundir import RunDir
from tests.rewardmodel.tiny import write_rows

CPU = Compute(device="cpu", precision="fp32")


@pytest.fixture
def copied_model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def change_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'smollm2-135m-instruct'"):
        resolve_model("smollm2-135m-instuct")


def test_a_hub_id_that_cannot_be_had_is_refused() -> None:
    with pytest.raises(ModelError, match="there is no directory 'nobody/nothing', and the hub gave nothing"):
        resolve_model("nobody/nothing")


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}),
        ("config.json", {"text_config": {"auto_map": {"AutoConfig": "evil.Config"}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}),
    ],
)
def test_a_model_that_brings_code_is_refused(copied_model: Path, file: str, changes: dict[str, object]) -> None:
    change_json(copied_model / file, **changes)
    with pytest.raises(ModelError, match="brings its own code, which is never run"):
        resolve_model(str(copied_model))


def test_pickled_weights_are_refused(copied_model: Path) -> None:
    (copied_model / "model.safetensors").rename(copied_model / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"holds no \*\.safetensors; pickled weights are not loaded"):
        resolve_model(str(copied_model))


def test_a_tokenizer_without_a_chat_template_is_refused(copied_model: Path) -> None:
    (copied_model / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        load_tokenizer(copied_model)


def test_padding_is_told_apart_from_the_end(copied_model: Path) -> None:
    change_json(copied_model / "tokenizer_config.json", pad_token="<|im_end|>")
    assert load_tokenizer(copied_model).pad_token == "<|endoftext|>"


def test_a_policy_is_not_taken_for_a_reward_model(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="is not a reward model"):
        load_reward_model(tiny_model, tokenizer=load_tokenizer(tiny_model), compute=CPU)


def test_a_new_head_is_small_and_the_same_for_a_seed(tiny_model: Path) -> None:
    """Weights of N(0, 1/65^2) for 64 features: the largest of 64 stays under 4.5/65 = 0.07."""
    tokenizer = load_tokenizer(tiny_model)
    heads = [
        create_reward_model(tiny_model, tokenizer=tokenizer, compute=CPU, seed=seed).score.weight for seed in (1, 1, 2)
    ]
    assert heads[0].equal(heads[1])
    assert not heads[0].equal(heads[2])
    assert 0 < heads[0].abs().max() < 0.07


def test_a_saved_reward_model_is_a_plain_transformers_directory(reward_run: RunDir) -> None:
    """transformers alone loads it, finds every weight, and reads the score that we read."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from rewardmodel.score import score_ids

    directory = reward_run.outputs / "model"
    plain, loading = AutoModelForSequenceClassification.from_pretrained(directory, output_loading_info=True)
    assert [key for key, found in loading.items() if found] == []
    tokenizer = load_tokenizer(directory)
    ids = encode_conversation(tokenizer, messages=[Message(role="user", content="the cat sat")])
    ours = load_reward_model(directory, tokenizer=tokenizer, compute=CPU)
    assert score_ids(ours, sequences=[ids], compute=CPU) == pytest.approx(
        plain.eval()(torch.tensor([ids])).logits[0].tolist(), abs=1e-6
    )


def test_the_head_does_not_round_rewards_under_autocast(reward_run: RunDir) -> None:
    """bfloat16 has 8 significant bits; scores that need more cannot all survive a round trip through it."""
    import torch

    from rewardmodel.score import score_ids

    directory = reward_run.outputs / "model"
    compute = Compute(device="cpu", precision="bf16")
    model = load_reward_model(directory, tokenizer=load_tokenizer(directory), compute=compute)
    scores = torch.tensor(score_ids(model, sequences=[[5, 6], [7, 8], [9, 10], [11, 12]], compute=compute))
    assert not scores.bfloat16().float().equal(scores)


def test_a_pair_splits_where_the_assistant_begins(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    pair = Pair([_turn("user", "the cat")], [_turn("assistant", "sat")], [_turn("assistant", "fell")], "id", None, 1)
    encoded = encode_pair(tokenizer, pair=pair)
    assert tokenizer.decode(encoded.prompt_ids) == "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(encoded.chosen_ids) == "sat<|im_end|>\n"
    assert tokenizer.decode(encoded.rejected_ids) == "fell<|im_end|>\n"


def test_over_long_and_identical_pairs_are_dropped_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "the cat", "chosen": "sat", "rejected": "fell"},
        {"prompt": "the cat", "chosen": "sat", "rejected": "fell " * 200},
        {"prompt": "the cat", "chosen": "sat", "rejected": "sat"},
    ]
    pairs = read_pairs(write_rows(tmp_path / "pairs.jsonl", rows))
    split = encode_split(load_tokenizer(tiny_model), pairs=pairs, max_length=64)
    assert [item.pair.line for item in split.pairs] == [1]
    assert split.dropped == {"too_long": 1, "identical": 1}


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}
