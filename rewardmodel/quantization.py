"""Weights packed into 4 bits for QLoRA (Dettmers et al. 2023): how they are loaded, what they take, how they end.

Every linear layer but the head is kept as NF4, blocks of 64 weights to a constant that is itself in 8 bits (double
quantisation), and is computed with in bfloat16 or float32; embeddings, norms and the head stay as they are. Adapters
are trained over such weights and then merged into the base's own, full ones: a merge into the packed weights would be
rounded to 4 bits again. The packing is bitsandbytes', which is not needed to read the model that comes out.
"""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import torch

from rewardmodel.compute import Compute
from rewardmodel.contract import InputError

LIBRARY = "bitsandbytes"
HEADS = ["score", "classifier"]  # of reward models; a policy's output layer is left out of itself


def require_library() -> None:
    """Raise InputError where weights cannot be packed here."""
    if importlib.util.find_spec(LIBRARY) is None:
        raise InputError(
            f"tuning: qlora needs {LIBRARY}, which is not installed: pip install 'preferee[qlora]', or use tuning lora"
        )


def refuse_packed(directory: Path) -> None:
    """Raise InputError for a model whose own weights are quantized: there is nothing full to merge into."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if config.get("quantization_config"):
        raise InputError(
            f"model: {directory} is quantized already; qlora packs the weights itself and merges into the full ones, "
            "so give the model it was made from"
        )


def loading_settings(compute: Compute, *, classifier: bool) -> dict[str, Any]:
    """Keyword arguments of from_pretrained that pack weights as they are read, one after another."""
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute.weights_dtype,
            llm_int8_skip_modules=HEADS if classifier else None,
        ),
        "device_map": {"": torch.cuda.current_device() if compute.device == "cuda" else "cpu"},
    }


def keep_layout(model: Any) -> None:
    """Have packed weights stay as they are: on CPUs with AVX-512 BF16, bitsandbytes lays them out anew at the first
    reading without a gradient, rounds their constants, and computes no gradient through them from then on."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def is_packed(parameter: Any) -> bool:
    """Whether a parameter holds two weights a byte."""
    return getattr(parameter, "quant_state", None) is not None


def holds_packed(model: Any) -> bool:
    """Whether any of a model's weights are packed."""
    return any(is_packed(parameter) for parameter in model.parameters())


def count_weights(parameter: Any) -> int:
    """How many weights a parameter holds."""
    return math.prod(parameter.quant_state.shape) if is_packed(parameter) else parameter.numel()


def packed_bytes(parameter: Any) -> int:
    """What a packed parameter takes with the constants of its blocks: about 0.516 bytes a weight."""
    state = parameter.quant_state
    constants = [state.absmax, state.code]
    if state.nested:
        constants += [state.offset, state.state2.absmax, state.state2.code]
    return sum(part.numel() * part.element_size() for part in (parameter, *constants))


def count_bytes(model: Any, *, each: float) -> float:
    """What a model's weights take: packed ones as they are, of others `each` bytes a weight."""
    return sum(packed_bytes(p) if is_packed(p) else each * p.numel() for p in model.parameters())


def largest_unpacked(model: Any, *, each: float) -> float:
    """Bytes of the largest packed layer as it stands unpacked while it is computed with; 0 where none is packed."""
    return each * max((count_weights(p) for p in model.parameters() if is_packed(p)), default=0)


def merge_into(whole: Any, *, trained: Any) -> Any:
    """The full base model with what was trained over its packed weights: W + (alpha / r) B A, and the trained head.

    whole: the base, unpacked, in float32, on the CPU. trained: a PEFT model. Raises ValueError where they do not fit.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    learned = {
        name: value.detach().float().cpu()
        for name, value in get_peft_model_state_dict(trained, save_embedding_layers=False).items()
    }
    adapted = get_peft_model(whole, trained.peft_config["default"])
    expected = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if expected != set(learned):
        raise ValueError(f"adapters and base differ in {sorted(expected ^ set(learned))[:3]}")
    set_peft_model_state_dict(adapted, learned)
    return adapted.merge_and_unload()
