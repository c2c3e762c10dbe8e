"""Encoders as reward models: their own classification head, a plain template, the same loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rewardmodel.chat import encode_conversation
from rewardmodel.compute import Compute
from rewardmodel.jobs import run_job
from rewardmodel.models import ModelError, create_reward_model, load_policy, load_tokenizer, read_positions
from rewardmodel.reading import build_rectangle, can_pack, find_blocks, read_last, read_rewards, reward_of
from rewardmodel.rundir import RunDir
from tests.rewardmodel.tiny import GOOD_WORD, WORDS

MakeSpec = Callable[..., dict[str, Any]]
CPU = Compute(device="cpu", precision="fp32")


def build_encoder(directory: Path, *, kind: str) -> Path:
    """A 2-layer BERT or RoBERTa without a classification head, and a tokenizer without a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([" ".join(WORDS), f"{GOOD_WORD} system user assistant :"] * 20, trainer=trainer)
    names = ("pad", "unk", "cls", "sep", "mask")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in zip(names, specials, strict=True)}
    )
    shape = {
        "vocab_size": len(fast),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "pad_token_id": fast.pad_token_id,
    }
    torch.manual_seed(0)
    model: Any = BertModel(BertConfig(**shape)) if kind == "bert" else RobertaModel(RobertaConfig(**shape))
    model.save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module", params=["bert", "roberta"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_encoder(tmp_path_factory.mktemp("encoder") / request.param, kind=request.param)


def test_an_encoders_reward_is_what_transformers_gives(encoder: Path) -> None:
    """Padded together against each conversation alone, through the whole model; the last state leads to it too."""
    tokenizer = load_tokenizer(encoder)
    model: Any = create_reward_model(encoder, tokenizer=tokenizer, compute=CPU, seed=0)
    texts = [[{"role": "user", "content": "the cat"}, {"role": "assistant", "content": t}] for t in ("sat", "on a mat")]
    sequences = [encode_conversation(tokenizer, messages=turns) for turns in texts]  # type: ignore[arg-type]
    assert tokenizer.decode(sequences[0]) == "[CLS] user : the cat [SEP] assistant : sat [SEP]"
    batch = build_rectangle(sequences, pad_id=tokenizer.pad_token_id, device="cpu")
    with torch.no_grad():
        alone = [model(input_ids=torch.tensor([ids])).logits.item() for ids in sequences]
        assert read_rewards(model, batch=batch).tolist() == pytest.approx(alone, abs=1e-6)
        assert reward_of(model, read_last(model, batch=batch)).tolist() == pytest.approx(alone, abs=1e-6)
    assert len(find_blocks(model)) == 2
    assert "both directions" in (can_pack(model) or "")
    assert read_positions(model) == (256 if encoder.name == "bert" else 255)


@pytest.mark.parametrize("changes", [{"tuning": "full"}, {"tuning": "lora"}, {"tuning": "head"}])
def test_an_encoder_is_trained_saved_and_read_again(
    tmp_path: Path, encoder: Path, make_spec: MakeSpec, changes: dict[str, Any]
) -> None:
    """The card says which template it was given; what was saved scores as it did (the report's figures are its)."""
    run = RunDir(tmp_path / "run").create(
        make_spec("reward", model=str(encoder), epochs=8.0, learning_rate=3e-3, **changes)
    )
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    report = run.read_report()
    assert report["heldout"]["accuracy"] > (0.6 if changes["tuning"] == "head" else 0.8)
    assert "encoder without a chat template" in (run.outputs / "model" / "README.md").read_text()
    assert (run.outputs / "model" / "laplace.safetensors").exists() == (changes["tuning"] == "head")


def test_an_encoder_writes_no_text(encoder: Path, tmp_path: Path, make_spec: MakeSpec) -> None:
    with pytest.raises(ModelError, match="is an encoder"):
        load_policy(encoder, tokenizer=load_tokenizer(encoder), compute=CPU, dtype=torch.float32)
    run = RunDir(tmp_path / "run").create(make_spec("reward", model=str(encoder), text_weight=0.1))
    assert run_job(run, show=False) == "bad input"
    assert "an encoder writes no text" in run.read_status()["error"]
