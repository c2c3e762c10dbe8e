"""What "auto" means for a run of our own loop on this machine, settled before the first step and written down.

Nothing here trains. Times and sizes are estimates from the model's shape; the constants say where they were measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from rewardmodel.compute import Compute
from rewardmodel.contract import DPOSpec, InputError, RewardSpec
from rewardmodel.groups import Group
from rewardmodel.log_probs import MOST_LOGITS, has_plain_head
from rewardmodel.quantization import count_bytes, count_weights, largest_unpacked
from rewardmodel.ranks import current_ranks, wants_sharding
from rewardmodel.reading import can_pack, find_blocks, find_parts, is_classifier

CPU_TOKENS = 4096
MOST_TOKENS = 32768
# Dense bfloat16 FLOP/s that makers state, by a word of the device's name.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}
# One H100, torch 2.11 (docs/training.md): share of the peak without and with a compiled block, of models narrower than
# 1,024 (SmolLM2-135M) and of others (1.1B Llama); and the seconds that compiling took.
SHARES = {True: (0.09, 0.21), False: (0.29, 0.45)}
COMPILE_SECONDS = 15.0


@dataclass(frozen=True)
class Settled:
    """How a run computes. reasons: one short sentence a choice that was left to us."""

    packed: bool
    weights: str
    compiled: bool
    checkpointing: bool
    batch_tokens: int
    reasons: list[str]
    processes: int = 1
    sharded: bool = False

    def describe(self) -> str:
        """One line for status and log."""
        parts = [
            "packed, shared prompts read once" if self.packed else "padded",
            f"{self.weights} weights",
            f"{'compiled' if self.compiled else 'not compiled'}",
            *(["activations computed again"] if self.checkpointing else []),
            f"{self.batch_tokens} tokens at once",
            *([f"{self.processes} processes"] if self.processes > 1 else []),
            *(["weights and optimizer divided among them"] if self.sharded else []),
        ]
        return "; ".join([", ".join(parts), *self.reasons])

    def to_dict(self) -> dict[str, Any]:
        """For the report and provenance."""
        return asdict(self)


def settle(
    spec: RewardSpec | DPOSpec, *, model: Any, compute: Compute, groups: Sequence[Group], epochs: float
) -> Settled:
    """Every choice. Raises InputError where what was asked for cannot be had."""
    reasons: list[str] = []
    processes = current_ranks().size
    sharded = _settle_sharding(spec, processes=processes)
    packed = _settle_packing(spec, model=model, compute=compute, reasons=reasons)
    weights = _settle_weights(spec, compute=compute)
    tokens = epochs * sum(group.tokens if packed else group.separate_tokens for group in groups)
    compiled = _settle_compile(
        spec, model=model, compute=compute, tokens=tokens / processes, packed=packed, sharded=sharded, reasons=reasons
    )
    batch_tokens = spec.batch_tokens or _fit_tokens(
        spec,
        model=model,
        compute=compute,
        weights=weights,
        compiled=compiled,
        parts=processes if sharded else 1,
        reasons=reasons,
    )
    return Settled(packed, weights, compiled, spec.activation_checkpointing, batch_tokens, reasons, processes, sharded)


def _settle_sharding(spec: RewardSpec | DPOSpec, *, processes: int) -> bool:
    wanted = wants_sharding() or spec.sharding == "full"
    if spec.sharding == "full" and processes == 1:
        raise InputError("sharding: full divides weights among processes; start several, with accelerate launch")
    return wanted and spec.sharding != "none" and processes > 1


def _settle_packing(spec: RewardSpec | DPOSpec, *, model: Any, compute: Compute, reasons: list[str]) -> bool:
    if spec.packing == "padded":
        return False
    obstacle = can_pack(model)
    if obstacle is None and not is_classifier(model) and not has_plain_head(model):
        obstacle = f"{type(model).__name__} scales or caps its logits"
    fast = compute.device == "cuda" and (compute.precision == "bf16" or spec.weights_dtype == "bf16")
    if spec.packing == "packed":
        if obstacle:
            raise InputError(f"packing: {obstacle}; use padded")
        if compute.device == "cuda" and not fast:
            raise InputError("packing: FlashAttention computes in bf16 only; set precision bf16, or packing padded")
        return True
    if fast and obstacle:
        reasons.append(f"padded since {obstacle}")
    # On a CPU the dense mask of a row costs more than padding saves.
    return fast and obstacle is None


def _settle_weights(spec: RewardSpec | DPOSpec, *, compute: Compute) -> str:
    if spec.weights_dtype == "auto":
        fast = compute.device == "cuda" and compute.precision == "bf16" and spec.tuning == "full"
        return "mixed" if fast else "fp32"
    if spec.weights_dtype != "fp32" and compute.precision != "bf16":
        raise InputError(f"weights_dtype: {spec.weights_dtype} needs precision bf16")
    return spec.weights_dtype


def _settle_compile(
    spec: RewardSpec | DPOSpec,
    *,
    model: Any,
    compute: Compute,
    tokens: float,
    packed: bool,
    sharded: bool,
    reasons: list[str],
) -> bool:
    if spec.compile != "auto":
        return spec.compile == "on"
    if sharded:  # not measured
        return False
    if compute.device != "cuda" or not packed or spec.tuning != "full":  # adapters have not been measured compiled
        return False
    saved = estimate_saving(model, tokens=tokens)
    pays = saved > 1.5 * COMPILE_SECONDS
    reasons.append(f"compiling would save about {saved:.0f} s and cost about {COMPILE_SECONDS:.0f} s")
    return pays


def _fit_tokens(
    spec: RewardSpec | DPOSpec,
    *,
    model: Any,
    compute: Compute,
    weights: str,
    compiled: bool,
    parts: int,
    reasons: list[str],
) -> int:
    if compute.device != "cuda":
        return CPU_TOKENS
    state, token = estimate_bytes(
        model, weights=weights, checkpointing=spec.activation_checkpointing, compiled=compiled
    )
    state /= parts
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated() + held
    room = 0.8 * free - state
    fit = int(room / token) // 1024 * 1024
    if fit < spec.max_length:
        raise InputError(
            f"about {state / 2**30:.1f} GiB for weights and optimizer and {spec.max_length * token / 2**30:.1f} GiB "
            f"for one response, but {free / 2**30:.1f} GiB are free: use tuning lora or qlora, weights_dtype bf16 or "
            "activation_checkpointing, or lower max_length"
        )
    chosen = min(MOST_TOKENS, fit)
    reasons.append(f"about {(state + chosen * token) / 2**30:.1f} of {free / 2**30:.1f} GiB")
    return chosen


def estimate_bytes(model: Any, *, weights: str, checkpointing: bool, compiled: bool) -> tuple[float, float]:
    """(bytes of weights, gradients and optimizer; bytes of activations a token), to within about a third."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    each = 2 if weights == "bf16" else 4
    frozen = count_bytes(model, each=each) - each * trained
    state = trained * {"fp32": 16, "mixed": 18, "bf16": 8}[weights] + frozen + largest_unpacked(model, each=each)
    config = find_parts(model)[0].config.get_text_config()
    hidden, inner = config.hidden_size, getattr(config, "intermediate_size", 4 * config.hidden_size)
    wide = 2 if weights == "fp32" else 1  # under autocast the residual stream is float32
    block = (14 if compiled else 26) * wide * hidden + (6 if compiled else 8) * inner
    layers = len(find_blocks(model))
    if not is_classifier(model):
        state += 3 * 4 * MOST_LOGITS
    return state, (2 * wide * hidden * layers + 2 * block) if checkpointing else block * layers


def estimate_saving(model: Any, *, tokens: float) -> float:
    """The seconds that a compiled block saves on this GPU, of reading so many tokens forward and back."""
    eager, fast = SHARES[find_parts(model)[0].config.get_text_config().hidden_size < 1024]
    seconds = count_flops(model, tokens=tokens) / find_peak()
    return seconds / eager - seconds / fast


def count_flops(model: Any, *, tokens: float) -> float:
    """Operations of a forward and a backward pass over the repeated layers: 6 a weight and token (Kaplan et al. 2020).

    Embeddings are looked up and the head reads one token a response: neither counts. Attention scores, a few per cent
    at these lengths, do not count either.
    """
    weights = sum(count_weights(p) for block in find_blocks(model) for p in block.parameters())
    return 6.0 * weights * tokens


def find_peak() -> float:
    """Stated dense bfloat16 FLOP/s of this GPU; a cautious guess for one not in the table."""
    name = torch.cuda.get_device_name()
    return next((peak for word, peak in PEAKS.items() if word in name), 150e12)
