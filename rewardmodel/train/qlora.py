"""What QLoRA asks of a training beside packed weights: that it can be done here, and where whole models are read.

Adapters are trained over the packed base, and so are validated. Held-out figures before and after are those of whole
models: of the base as it was given, and of the one that is saved.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open

from rewardmodel.compute import Compute
from rewardmodel.contract import InputError
from rewardmodel.quantization import holds_packed, require_library
from rewardmodel.ranks import current_ranks, divides_weights
from rewardmodel.train.common import ValidatedSpec
from rewardmodel.train.memory import GIB, find_free

MAIN_MEMORY = Compute(device="cpu", precision="fp32")
COPY = 2.6  # bytes a weight, on a GPU: of the copy that answers are drawn from, and of the packed model beside it
ROOM = 1.2  # of a whole model's weights, for what reading it takes beside them


def check_qlora(spec: ValidatedSpec) -> None:
    """Raise InputError where tuning qlora is asked for and cannot be had."""
    if spec.tuning != "qlora":
        return
    require_library()
    if divides_weights():
        raise InputError(
            "tuning: qlora trains a whole copy on every device, and FSDP and DeepSpeed divide it: start with the "
            "configuration data_parallel.yaml, or use tuning lora"
        )


def choose_reader(spec: ValidatedSpec, *, base: Path, compute: Compute) -> Compute:
    """Where held-out rows are read before and after: on the GPU, unless the whole model does not fit there.

    Raises InputError where it does not fit main memory, in which adapters are merged.
    """
    if spec.tuning != "qlora":
        return compute
    wanted = ROOM * 4 * count_saved_weights(base)
    free = find_free(MAIN_MEMORY, held=0)
    if free is not None and wanted > free:
        raise InputError(
            f"tuning: qlora merges into the whole model in main memory, which takes about {wanted / GIB:.1f} GiB, but "
            f"{free / GIB:.1f} GiB are free: use a smaller model or a larger machine"
        )
    wanted += ROOM * COPY * count_saved_weights(base) if compute.device == "cuda" else 0
    free = find_free(compute, held=0)
    if free is None or wanted <= free:
        return compute
    if current_ranks().first:
        print(
            f"rewardmodel: the whole model takes about {wanted / GIB:.1f} GiB and {free / GIB:.1f} GiB are free on the "
            "GPU: held-out rows are read on the CPU",
            file=sys.stderr,
        )
    return MAIN_MEMORY


def count_saved_weights(directory: Path) -> int:
    """How many weights a model's files hold, read from their headers."""
    total = 0
    for file in directory.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total


def find_untrained(model: Any, *, load: Callable[..., Any], reader: Compute) -> Any:
    """What held-out figures before training are of: the model, or where its weights are packed the whole one that
    load(packed=False, compute=reader) gives."""
    return load(packed=False, compute=reader) if holds_packed(model) else model


def note_qlora(spec: ValidatedSpec, *, reader: Compute, compute: Compute) -> list[str]:
    """Sentences for the report: what the figures are of."""
    if spec.tuning != "qlora":
        return []
    notes = [
        "the adapters were trained over weights in 4 bits (NF4) and merged into the full ones; the held-out figures "
        "are those of the saved, full model"
    ]
    if reader.device != compute.device:
        notes.append("the full model did not fit the GPU: held-out rows were read on the CPU")
    return notes
