"""The seam between the app and the library: what a run is asked to do, in the standard library alone.

`parse_spec` turns a mapping (from JSON, YAML or a form) into one frozen dataclass a method, checked once;
`spec_to_dict` turns it back. Nothing here reads a file or imports torch: paths are checked where they are opened.

The JSONL rows that cross the seam are the TypedDicts at the end of this module.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NotRequired, TypedDict, TypeVar, Union, get_args, get_origin, get_type_hints

METHODS = (
    "reward",
    "sft",
    "dpo",
    "kto",
    "rejection",
    "ppo",
    "rloo",
    "grpo",
    "online-dpo",
    "check",
    "generate",
    "score",
    "advise",
    "verify",
)
STATES = ("queued", "running", "succeeded", "failed", "cancelled")
LARGEST_NUMBER = 10**300
PLAIN_VARIANT = "{prompt}"
EMBEDDED_MODEL = "smollm2-135m-instruct"
SPLITS = ("train", "validation", "test")
REWARD_LOSSES = ("bradley-terry", "davidson", "rao-kupper", "plackett-luce", "ratings")
TIE_LOSSES = ("davidson", "rao-kupper")
STRENGTHS = ("0", "1", "2", "3")
TRACKERS = ("wandb", "mlflow", "trackio")
LOSS_TYPES = ("sigmoid", "hinge", "ipo", "robust", "apo_zero", "apo_down", "sigmoid_norm", "simpo")
KL_ESTIMATORS = ("k1", "k2", "k3")
ATTEMPT_CHOICES = ("shortest", "diverse", "probable", "first")
SMOOTHED_LOSSES = ("sigmoid", "robust", "sigmoid_norm", "simpo")

# Where nothing is said, by (method, tuning). LoRA takes about ten times the rate of full fine-tuning
# (Schulman et al. 2025, "LoRA Without Regret").
LEARNING_RATES = {
    ("reward", "lora"): 1e-4,
    ("reward", "qlora"): 1e-4,
    ("reward", "full"): 1e-5,
    ("sft", "lora"): 2e-4,
    ("sft", "qlora"): 2e-4,
    ("sft", "full"): 2e-5,
    ("dpo", "lora"): 2e-5,
    ("dpo", "qlora"): 2e-5,
    ("dpo", "full"): 2e-6,
    ("kto", "lora"): 2e-5,
    ("kto", "qlora"): 2e-5,
    ("kto", "full"): 2e-6,
    ("rejection", "lora"): 2e-4,
    ("rejection", "full"): 2e-5,
    ("ppo", "lora"): 3e-5,
    ("ppo", "full"): 3e-6,
    ("rloo", "lora"): 3e-5,
    ("rloo", "full"): 3e-6,
    ("grpo", "lora"): 3e-5,
    ("grpo", "full"): 3e-6,
    ("online-dpo", "lora"): 2e-5,
    ("online-dpo", "full"): 2e-6,
}
# A critic is trained like the reward model that it mostly begins as.
VALUE_LEARNING_RATES = {"lora": 1e-4, "full": 1e-5}


class InputError(ValueError):
    """Something the person who started the run can correct: a spec, a data file, a model's directory."""


class SpecError(InputError):
    """A spec that cannot be run; the message names the field."""


def setting(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] | None = None,
) -> Any:
    """A dataclass field whose metadata carries its help and its range (`above` is exclusive)."""
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "above": above, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class _Spec:
    """What every method shares: where it computes, and the check of every field."""

    method: ClassVar[str]

    seed: int = setting(0, minimum=0, maximum=2**31 - 1, help="Seed of everything random in the run.")
    device: str = setting("auto", choices=("auto", "cpu", "cuda"), help="auto: cuda where there is one.")
    precision: str = setting(
        "auto", choices=("auto", "fp32", "bf16"), help="auto: bf16 where the device computes it in hardware."
    )
    threads: int | None = setting(None, minimum=1, maximum=1024, help="CPU threads of torch; unset: torch decides.")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class _TrainingSpec(_Spec):
    """What all trainings share."""

    model: str = setting(EMBEDDED_MODEL, help=f"{EMBEDDED_MODEL}, a directory, or a hub id.")
    data: str | dict[str, str] = setting(  # noqa: RUF009 (a field, as everywhere here)
        help="A directory with train.jsonl, test.jsonl and perhaps validation.jsonl, or a mapping split -> file."
    )
    tuning: str = setting("lora", choices=("lora", "full"), help="lora trains adapters, merged at the end.")
    lora_rank: int = setting(16, minimum=1, maximum=1024, help="Rank of the LoRA matrices.")
    lora_alpha: int = setting(32, minimum=1, maximum=4096, help="LoRA scale: updates are multiplied by alpha/rank.")
    learning_rate: float | None = setting(
        None, above=0, maximum=1, help="Peak learning rate; unset: a default of the method and tuning."
    )
    epochs: float = setting(1.0, above=0, maximum=1000, help="Passes over the training rows.")
    max_steps: int | None = setting(None, minimum=1, help="Optimizer steps; overrides epochs.")
    batch_size: int = setting(8, minimum=1, maximum=4096, help="Rows of a step.")
    gradient_accumulation: int = setting(1, minimum=1, maximum=4096, help="Batches to an optimizer step.")
    max_length: int = setting(
        1024, minimum=8, help="Tokens of prompt and response together; what is longer is dropped and counted."
    )
    save_steps: int = setting(100, minimum=1, help="Optimizer steps between checkpoints.")
    logging_steps: int = setting(5, minimum=1, help="Optimizer steps between rows of metrics.jsonl.")
    warmup_ratio: float = setting(0.05, minimum=0, maximum=1, help="Share of the steps that warm up.")
    tensorboard: bool = setting(True, help="Write TensorBoard events into the run directory.")
    trackers: str | tuple[str, ...] = setting(
        (), help=f"Trackers beside TensorBoard, by name: {', '.join(TRACKERS)}; a list, or words with commas."
    )
    snapshot_sha256: str | None = setting(None, help="Hash of the snapshot the data came from, for provenance.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", LEARNING_RATES.get((self.method, self.tuning)))
        object.__setattr__(self, "trackers", _check_trackers(self.trackers))
        if isinstance(self.data, dict):
            _check_splits(self.data)


@dataclass(frozen=True, kw_only=True)
class _ValidatedSpec(_TrainingSpec):
    """What trainings that watch the validation split share; the test split is never looked at before the end."""

    tuning: str = setting(
        "lora",
        choices=("lora", "qlora", "full"),
        help="lora trains adapters, merged at the end; qlora the same over weights packed into 4 bits.",
    )
    eval_steps: int | None = setting(
        None,
        minimum=1,
        help="Optimizer steps between figures on the validation split, where there is one; unset: 100, or a tenth of "
        "a longer run.",
    )
    early_stopping_patience: int | None = setting(
        None,
        minimum=1,
        help="Stop after so many validation losses without a better one, and keep the best weights; unset: never.",
    )


@dataclass(frozen=True, kw_only=True)
class _LoopSpec(_ValidatedSpec):
    """What our own loop over groups of responses can do, for reward models and DPO."""

    batch_size: int = setting(
        8,
        minimum=1,
        maximum=4096,
        help="Pairs of a step, on all devices together; gradient_accumulation multiplies them.",
    )
    pair_weights: str = setting(
        "rows", choices=("rows", "equal"), help="rows: the data's weights (a ranking weighs 1); equal: every pair 1."
    )
    batch_tokens: int | None = setting(
        None, minimum=8, help="Tokens read at once; a step of more is read in parts. Unset: from the device's memory."
    )
    step_tokens: int | None = setting(
        None, minimum=8, help="Tokens of an optimizer step, in place of batch_size: steps of equal work."
    )
    packing: str = setting(
        "auto",
        choices=("auto", "packed", "padded"),
        help="packed: all responses in one row without padding, shared prompts read once; auto: on a GPU in bf16.",
    )
    weights_dtype: str = setting(
        "auto",
        choices=("auto", "fp32", "mixed", "bf16"),
        help="mixed: bf16 weights, fp32 masters in the optimizer; auto: mixed for full tuning on a GPU in bf16.",
    )
    compile: str = setting(
        "auto", choices=("auto", "on", "off"), help="Compile the repeated block; auto: on a GPU, where it pays back."
    )
    activation_checkpointing: bool = setting(
        False, help="Compute activations again in the backward pass: less memory, about a third more time."
    )
    sharding: str = setting(
        "auto",
        choices=("auto", "none", "full"),
        help="full: several processes divide weights and optimizer (FSDP2); auto: where accelerate says so.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights_dtype == "mixed" and self.tuning in ("lora", "qlora"):
            raise SpecError(f"weights_dtype: mixed is for tuning full; with {self.tuning} the weights are frozen")
        if self.tuning == "qlora" and self.compile == "on":
            raise SpecError("compile: qlora computes with packed weights, which are not compiled; use auto or off")
        if self.tuning == "qlora" and self.sharding == "full":
            raise SpecError("sharding: qlora trains a whole copy on every device; use none, or tuning lora")


@dataclass(frozen=True, kw_only=True)
class RewardSpec(_LoopSpec):
    """Train a reward model on pairs or rankings."""

    method: ClassVar[str] = "reward"

    tuning: str = setting(
        "lora",
        choices=("lora", "qlora", "full", "head"),
        help="lora trains adapters, merged at the end; qlora the same over weights packed into 4 bits; head fits the "
        "linear head alone, on states read once.",
    )
    head_prior: float | None = setting(
        None, above=0, maximum=1e9, help="Precision of tuning head's Gaussian prior; unset: the likeliest, by evidence."
    )
    laplace: str = setting(
        "auto",
        choices=("auto", "on", "off"),
        help="Keep the Gaussian posterior of the head, for the std of scores; auto: with tuning head.",
    )
    ensemble: int | None = setting(
        None,
        minimum=2,
        maximum=1000,
        help="Heads on resampled prompts, whose spread is the std of scores (tuning head).",
    )
    loss: str = setting(
        "bradley-terry",
        choices=REWARD_LOSSES,
        help="All pairs of a prompt's responses; davidson and rao-kupper use ties; plackett-luce needs strict orders; "
        "ratings learns named scales from rated responses.",
    )
    tie_strength: float | None = setting(
        None, minimum=0, maximum=1000, help="Tie parameter of davidson or rao-kupper; unset: from the share of ties."
    )
    label_smoothing: float = setting(
        0.0, minimum=0, maximum=0.5, help="Probability that a judgement is the wrong way round (conservative BT)."
    )
    margins: dict[str, float] | None = setting(  # noqa: RUF009 (a field, as everywhere here)
        None, help="Table strength -> lead that the better response should have, as {1: 0, 2: 0.5, 3: 1}; unset: none."
    )
    attribute_weights: dict[str, float] | None = setting(  # noqa: RUF009 (a field, as everywhere here)
        None,
        help="Of loss ratings: scale -> its weight in the score, as {helpfulness: 1, verbosity: -0.5}; unset: equal.",
    )
    length_penalty: float | None = setting(
        None, minimum=0, help="Weight of the squared correlation of reward and length within pairs (after ODIN, 2024)."
    )
    text_weight: float = setting(
        0.0,
        minimum=0,
        maximum=100,
        help="Weight of the language model's own loss on better responses, a token (GRM, Yang et al. 2024).",
    )
    center_rewards_coefficient: float | None = setting(
        None,
        minimum=0,
        help="Weight of (r_chosen + r_rejected)^2, which keeps rewards near 0 (Eisenstein et al. 2023).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margins is not None:
            object.__setattr__(self, "margins", _check_margins(self.margins))
        if self.tie_strength is not None and self.loss not in TIE_LOSSES:
            raise SpecError(f"tie_strength: loss {self.loss} has no ties; use {' or '.join(TIE_LOSSES)}")
        if self.tie_strength is not None and self.loss == "rao-kupper" and self.tie_strength < 1:
            raise SpecError(f"tie_strength: must be at least 1 for rao-kupper, got {self.tie_strength}")
        if self.margins is not None and self.loss != "bradley-terry":
            raise SpecError(f"margins: loss {self.loss} knows no margins; use bradley-terry")
        if self.label_smoothing and self.loss == "plackett-luce":
            raise SpecError("label_smoothing: loss plackett-luce knows none; use bradley-terry")
        if self.loss == "ratings":
            self._check_ratings()
        elif self.attribute_weights is not None:
            raise SpecError("attribute_weights: is for loss ratings")
        if self.tuning != "head" and self.ensemble is not None:
            raise SpecError("ensemble: members are heads; set tuning head")
        if self.tuning != "head" and self.head_prior is not None:
            raise SpecError("head_prior: is for tuning head")
        if self.tuning == "head" and self.early_stopping_patience is not None:
            raise SpecError("early_stopping_patience: tuning head finds the best weights at once; leave it unset")
        if self.tuning == "head" and self.text_weight:
            raise SpecError("text_weight: tuning head leaves the language model as it is")

    def _check_ratings(self) -> None:
        if self.tuning == "head":
            raise SpecError("loss: ratings trains with tuning lora, qlora or full")
        for name in ("label_smoothing", "length_penalty", "text_weight", "center_rewards_coefficient"):
            if getattr(self, name):
                raise SpecError(f"{name}: loss ratings has no pairs; leave it out")
        if self.laplace == "on":
            raise SpecError("laplace: is for losses of comparisons, not for ratings")
        for name, weight in (self.attribute_weights or {}).items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
                raise SpecError(f"attribute_weights.{name}: expected a finite number, got {weight!r}")


@dataclass(frozen=True, kw_only=True)
class DPOSpec(_LoopSpec):
    """Train a policy on pairs by direct preference optimisation (Rafailov et al. 2023)."""

    method: ClassVar[str] = "dpo"

    beta: float | None = setting(
        None, above=0, maximum=100, help="Strength of the pull towards the reference; unset: 0.1, for simpo 2."
    )
    loss_type: str = setting(
        "sigmoid", choices=LOSS_TYPES, help="sigmoid is the loss of the DPO paper; simpo needs no reference."
    )
    label_smoothing: float | None = setting(
        None,
        minimum=0,
        maximum=0.49,
        help="Probability that a judgement is the wrong way round; unset: 0.1 for robust, else 0.",
    )
    target_margin: float | None = setting(
        None, minimum=0, maximum=100, help="The lead that simpo asks for, in beta x nats a token; unset: 1."
    )
    length_control: float = setting(
        0.0,
        minimum=0,
        maximum=1,
        help="What a token more explains of a preference (alpha of R-DPO); 0: nothing.",
    )
    report_samples: int = setting(
        4, minimum=0, maximum=1000, help="Held-out prompts answered before and after, for the report."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta is None:
            object.__setattr__(self, "beta", 2.0 if self.loss_type == "simpo" else 0.1)
        if self.label_smoothing is None:
            object.__setattr__(self, "label_smoothing", 0.1 if self.loss_type == "robust" else 0.0)
        elif self.label_smoothing and self.loss_type not in SMOOTHED_LOSSES:
            raise SpecError(f"label_smoothing: loss_type {self.loss_type} knows none; use {', '.join(SMOOTHED_LOSSES)}")
        if self.target_margin is None:
            object.__setattr__(self, "target_margin", 1.0 if self.loss_type == "simpo" else 0.0)
        elif self.target_margin and self.loss_type != "simpo":
            raise SpecError(f"target_margin: loss_type {self.loss_type} has none; use simpo")
        if self.length_control and self.loss_type != "sigmoid":
            raise SpecError(f"length_control: loss_type {self.loss_type} has none; use sigmoid")


@dataclass(frozen=True, kw_only=True)
class _ExampleSpec(_ValidatedSpec):
    """What trainings on single responses share."""

    batch_size: int = setting(
        8,
        minimum=1,
        maximum=4096,
        help="Rows that each device reads at once; gradient_accumulation such readings make a step.",
    )
    activation_checkpointing: bool = setting(
        False, help="Compute activations again in the backward pass: less memory, about a third more time."
    )
    report_samples: int = setting(
        4, minimum=0, maximum=1000, help="Held-out prompts answered before and after, for the report."
    )


@dataclass(frozen=True, kw_only=True)
class SFTSpec(_ExampleSpec):
    """Train a policy to say what good examples say (supervised fine-tuning)."""

    method: ClassVar[str] = "sft"

    assistant_only: bool = setting(
        True,
        help="Loss on what the assistant says alone (a row's completion, or all its turns); false: on every token.",
    )
    packing: str = setting(
        "none",
        choices=("none", "bfd"),
        help="bfd: rows of max_length filled with whole conversations that do not see each other (best fit).",
    )


@dataclass(frozen=True, kw_only=True)
class KTOSpec(_ExampleSpec):
    """Train a policy on responses labelled good or bad, without pairs (KTO, Ethayarajh et al. 2024)."""

    method: ClassVar[str] = "kto"

    batch_size: int = setting(
        8,
        minimum=2,
        maximum=4096,
        help="Rows that each device reads at once; the KL term is estimated within those of all devices.",
    )
    beta: float = setting(0.1, above=0, maximum=100, help="Strength of the pull towards the reference model.")
    desirable_weight: float | None = setting(
        None, above=0, maximum=1000, help="Weight of rows labelled true; unset: balances the two (paper, eq. 8)."
    )
    undesirable_weight: float | None = setting(
        None, above=0, maximum=1000, help="Weight of rows labelled false; unset: balances the two (paper, eq. 8)."
    )


@dataclass(frozen=True, kw_only=True)
class RejectionSpec(_TrainingSpec):
    """Train a policy on those of its own responses that a verifier accepts, in rounds.

    Rejection-sampling fine-tuning (Yuan et al. 2023), expert iteration (Singh et al. 2023, "Beyond human data").
    """

    method: ClassVar[str] = "rejection"

    data: str | dict[str, str] = setting(  # noqa: RUF009 (a field, as everywhere here)
        help="A directory with train.jsonl and test.jsonl of rows {prompt, verifier}, or a mapping split -> file."
    )
    rounds: int = setting(3, minimum=1, maximum=100, help="Rounds of sampling, selecting and training.")
    start_from: str = setting(
        "base",
        choices=("base", "last"),
        help="What a round trains: base, the model of the beginning (STaR, ReST-EM), or the last round's.",
    )
    accumulate: bool = setting(True, help="A round learns from the attempts of all rounds so far; false: of its own.")
    samples: int = setting(4, minimum=1, maximum=1024, help="Attempts a prompt gets at a time.")
    max_samples: int = setting(
        16,
        minimum=1,
        maximum=65536,
        help="Attempts a prompt gets a round at most: hard prompts get more than easy ones.",
    )
    enough: int | None = setting(
        4, minimum=1, help="Different accepted attempts after which a prompt gets no more; null: all get max_samples."
    )
    temperature: float = setting(1.0, above=0, maximum=10, help="Temperature of the attempts.")
    top_p: float = setting(1.0, above=0, maximum=1, help="Sample from the likeliest tokens that hold this mass.")
    response_tokens: int = setting(256, minimum=1, help="Longest attempt; what does not end by then is not learned.")
    max_length: int = setting(
        1024, minimum=8, help="Tokens of prompt and response_tokens together; longer prompts are dropped and counted."
    )
    explorers: tuple[str, ...] = setting(
        (), help="Other policies that attempt the training prompts by turns with the one that is trained."
    )
    variants: tuple[str, ...] = setting(
        (PLAIN_VARIANT,),
        help="Forms in which attempts are asked for by turns, {prompt} standing for the last turn as it is; what is "
        "learned is to answer the plain prompt.",
    )
    generation_batch_size: int = setting(64, minimum=1, maximum=65536, help="Attempts made at once.")
    workers: int | None = setting(None, minimum=1, maximum=1024, help="Processes that verify; unset: one a core.")
    reward_model: str | None = setting(None, help="The model of verifiers of kind reward; unset: such are refused.")
    per_prompt: int = setting(4, minimum=1, help="Accepted attempts that are learned of one prompt at most.")
    choice: str = setting(
        "shortest",
        choices=ATTEMPT_CHOICES,
        help="Which of a prompt's accepted attempts: the shortest, most diverse, most probable, or first.",
    )
    balance: bool = setting(False, help="Let hard, middling and easy prompts give about equally many rows.")
    too_easy: float = setting(
        1.0, above=0, maximum=1, help="Leave out prompts of which a greater share of attempts passed; 1: none."
    )
    examples: str | None = setting(None, help="JSONL file of rows to imitate, learned beside the accepted attempts.")
    examples_ratio: float = setting(
        0.5, above=0, maximum=1000, help="Rows of examples beside each accepted attempt, drawn anew each round."
    )
    epochs: float = setting(2.0, above=0, maximum=1000, help="Passes over what was accepted, a round.")
    max_steps: int | None = setting(None, minimum=1, help="Optimizer steps of a round; overrides epochs.")
    test_prompts: int = setting(
        200, minimum=2, maximum=100000, help="Held-out prompts answered before the first and after each round."
    )
    test_samples: int = setting(4, minimum=1, maximum=1024, help="Answers to each of them.")
    pass_k: int = setting(4, minimum=1, help="k of pass@k on held-out prompts; at most test_samples.")
    report_samples: int = setting(
        4, minimum=0, maximum=1000, help="Held-out prompts whose answers before and after stand in the report."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_texts("explorers", self.explorers)
        _check_texts("variants", self.variants)
        if not self.variants or any(PLAIN_VARIANT not in form for form in self.variants):
            raise SpecError(f"variants: every one needs {PLAIN_VARIANT}, which stands for the prompt")
        if self.max_samples < self.samples:
            raise SpecError(f"max_samples: {self.max_samples} are fewer than samples {self.samples}")
        if self.pass_k > self.test_samples:
            raise SpecError(f"pass_k: {self.pass_k} is more than test_samples {self.test_samples}; raise test_samples")
        if self.response_tokens >= self.max_length:
            raise SpecError(
                f"response_tokens: {self.response_tokens} leave no room for a prompt in max_length {self.max_length}"
            )


@dataclass(frozen=True, kw_only=True)
class RewardTerm:
    """One of several rewards, whose weighted sum a policy is trained by."""

    kind: ClassVar[str]

    weight: float = setting(1.0, help="What its value is multiplied by.")
    name: str | None = setting(None, help="What metrics and report call it; unset: its kind.")

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def title(self) -> str:
        """Its name, or its kind."""
        return self.name or self.kind


@dataclass(frozen=True, kw_only=True)
class ModelTerm(RewardTerm):
    """The score of a reward model, or of several their mean less `spread` of their standard deviations."""

    kind: ClassVar[str] = "model"

    model: str | tuple[str, ...] = setting(help="A reward model, or a list of them: directories or hub ids.")
    spread: float = setting(
        1.0, minimum=0, maximum=100, help="Standard deviations (over models) that are taken off the mean of several."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.models or not all(
            isinstance(name, str) and name.strip() and is_plain_text(name) for name in self.models
        ):
            raise SpecError(f"model: expected a name or a list of names, got {self.model!r}")

    @property
    def models(self) -> tuple[str, ...]:
        """The names."""
        return (self.model,) if isinstance(self.model, str) else self.model


@dataclass(frozen=True, kw_only=True)
class VerifierTerm(RewardTerm):
    """What the `verifier` of the prompt's row says: its score, 0 to 1."""

    kind: ClassVar[str] = "verifier"


@dataclass(frozen=True, kw_only=True)
class LengthTerm(RewardTerm):
    """0 up to `free` tokens, then down in a line to -1 at `most` (Yu et al. 2025, DAPO, eq. 13)."""

    kind: ClassVar[str] = "length"

    free: int = setting(minimum=0, help="Tokens of a response that cost nothing.")
    most: int = setting(minimum=1, help="Tokens that cost 1, as all beyond do.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most <= self.free:
            raise SpecError(f"most: {self.most} tokens, but {self.free} of them are free; set it above free")


@dataclass(frozen=True, kw_only=True)
class FormatTerm(RewardTerm):
    """1 for a response that a regular expression matches as a whole, else 0."""

    kind: ClassVar[str] = "format"

    pattern: str = setting(help="Regular expression of the whole response, spaces at its ends apart; . takes newlines.")

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise SpecError(f"pattern: {error}") from None


@dataclass(frozen=True, kw_only=True)
class PythonTerm(RewardTerm):
    """What a function of one's own says: function(prompts, responses, rows) -> a number each."""

    kind: ClassVar[str] = "python"

    function: str = setting(help="The name of an installed entry point of the group preferee.rewards.")


TERMS: dict[str, type[RewardTerm]] = {
    term.kind: term for term in (ModelTerm, VerifierTerm, LengthTerm, FormatTerm, PythonTerm)
}


def parse_terms(mappings: tuple[Any, ...]) -> tuple[RewardTerm, ...]:
    """The rewards of a list of mappings {kind, …}. Raises SpecError naming place and field."""
    terms: list[RewardTerm] = []
    for place, mapping in enumerate(mappings):
        kind = mapping.get("kind") if isinstance(mapping, Mapping) else None
        if not isinstance(kind, str) or kind not in TERMS:
            raise SpecError(f"rewards[{place}].kind: {name_nearest(str(kind), tuple(TERMS))}")
        settings = {key: value for key, value in mapping.items() if key != "kind"}
        try:
            term = build_settings(TERMS[kind], settings=settings, owner=f"rewards of kind {kind}")
        except SpecError as error:
            raise SpecError(f"rewards[{place}].{error}") from None
        if term.title in (other.title for other in terms):
            raise SpecError(f"rewards[{place}].name: {term.title!r} is taken by an earlier one; give each a name")
        terms.append(term)
    return tuple(terms)


@dataclass(frozen=True, kw_only=True)
class OnlineSpec(_TrainingSpec):
    """What trainings of a policy on its own responses share: PPO, RLOO, GRPO and online DPO."""

    data: str | dict[str, str] = setting(  # noqa: RUF009 (a field, as everywhere here)
        help="A directory with train.jsonl and test.jsonl of rows {prompt}, or a mapping split -> file."
    )
    reward_model: str | None = setting(
        None, help="The frozen reward model: a directory or a hub id. In its place: rewards."
    )
    rewards: tuple[dict[str, Any], ...] = setting(
        (), help=f"Several rewards, a list of mappings {{kind, weight, name, …}}; kinds are {', '.join(TERMS)}."
    )
    gold_model: str | None = setting(
        None, help="A reward model that is never trained against, and scores held-out answers as training goes on."
    )
    gold_steps: int = setting(10, minimum=1, help="Steps (rollouts) between the gold model's scores.")
    epochs: float = setting(1.0, above=0, maximum=1000, help="Passes over the training prompts.")
    max_steps: int | None = setting(None, minimum=1, help="Rollouts; overrides epochs.")
    batch_size: int = setting(
        32, minimum=2, maximum=65536, help="Responses of a step (rollout): group_size to each of its prompts."
    )
    group_size: int = setting(1, minimum=1, maximum=1024, help="Responses to each prompt of a step.")
    minibatches: int = setting(
        1, minimum=1, maximum=4096, help="Parts of a rollout, of whole prompts, that each move the weights once a pass."
    )
    ppo_epochs: int = setting(1, minimum=1, maximum=100, help="Passes over a rollout (mu in GRPO).")
    gradient_accumulation: int = setting(
        1, minimum=1, maximum=1, help="Always 1: a minibatch that is too large is read in parts of batch_tokens."
    )
    batch_tokens: int | None = setting(
        None, minimum=8, help="Tokens read at once; a minibatch of more is read in parts. Unset: 4096, on a GPU 16384."
    )
    generation_batch_size: int = setting(64, minimum=1, maximum=65536, help="Responses generated at once.")
    packing: str = setting(
        "auto",
        choices=("auto", "packed", "padded"),
        help="packed: responses in one row without padding; auto: on a GPU in bf16.",
    )
    compile: str = setting(
        "auto", choices=("auto", "on", "off"), help="Compile the repeated block; auto: on a GPU, where it pays back."
    )
    response_tokens: int = setting(128, minimum=1, help="Longest response; what does not end by then is cut there.")
    max_length: int = setting(
        1024, minimum=8, help="Tokens of prompt and response_tokens together; longer prompts are dropped and counted."
    )
    temperature: float = setting(
        1.0, above=0, maximum=10, help="Temperature of the samples; log-probabilities are taken at it too."
    )
    save_steps: int = setting(10, minimum=1, help="Steps (rollouts) between checkpoints.")
    logging_steps: int = setting(1, minimum=1, help="Steps (rollouts) between rows of metrics.jsonl.")
    learning_rate: float | None = setting(
        None, minimum=0, maximum=1, help="Peak learning rate of the policy; unset: a default of the method and tuning."
    )
    adam_epsilon: float = setting(
        1e-8, above=0, maximum=1, help="Added to AdamW's denominator; 1e-5 as in Huang et al. (2024) damps small moves."
    )
    kl_budget: float | None = setting(
        None, above=0, help="Nats a response at which training stops early; unset: never."
    )
    reward_clip: float | None = setting(None, above=0, help="Scores are held within plus and minus this; unset: not.")
    eos_penalty: float = setting(0.0, minimum=0, help="Taken off the score of a response that did not end itself.")
    eos_score: float | None = setting(
        None, help="The score of a response that did not end itself, whatever the reward model says; unset: its own."
    )
    report_samples: int = setting(
        4, minimum=0, maximum=1000, help="Held-out prompts whose answers before and after stand in the report."
    )
    sample_steps: int = setting(
        10, minimum=1, help="Steps (rollouts) between answers to the report's prompts, kept in samples.jsonl."
    )
    test_prompts: int = setting(
        64, minimum=2, maximum=100000, help="Held-out prompts answered and scored before and after."
    )

    @property
    def terms(self) -> tuple[RewardTerm, ...]:
        """What the policy is rewarded by."""
        return parse_terms(self.rewards) if self.reward_model is None else (ModelTerm(model=self.reward_model),)

    @property
    def prompts_a_step(self) -> int:
        """How many prompts a rollout answers."""
        return self.batch_size // self.group_size

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reward_model is None and not self.rewards:
            raise SpecError(f"reward_model: required by method {self.method}: a reward model, or rewards in its place")
        if self.reward_model is not None and self.rewards:
            raise SpecError("rewards: they stand in the place of reward_model; make it one of them (kind: model)")
        parse_terms(self.rewards)
        if self.batch_size % self.group_size:
            raise SpecError(f"batch_size: {self.batch_size} responses are no whole groups of {self.group_size}")
        if self.minibatches > self.prompts_a_step:
            raise SpecError(
                f"minibatches: {self.minibatches} parts of {self.prompts_a_step} prompts' responses; at most as many"
            )
        if self.response_tokens >= self.max_length:
            raise SpecError(
                f"response_tokens: {self.response_tokens} leave no room for a prompt in max_length {self.max_length}"
            )
        if self.eos_score is not None and self.eos_penalty:
            raise SpecError("eos_penalty: eos_score replaces the score, so nothing is taken off it; use one of them")


@dataclass(frozen=True, kw_only=True)
class PenalizedSpec(OnlineSpec):
    """What those share that weigh the KL beside the reward: PPO, RLOO and GRPO."""

    clip: float = setting(0.2, above=0, maximum=1, help="How far a ratio may gain from 1 (epsilon of PPO, eq. 7).")
    kl_coefficient: float = setting(
        0.05, minimum=0, maximum=100, help="Weight of KL(policy || reference), in units of the score a nat."
    )
    target_kl: float | None = setting(
        None, above=0, help="Nats a response that kl_coefficient is adapted to (Ziegler et al. 2019); unset: fixed."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target_kl is not None and not self.kl_coefficient:
            raise SpecError("target_kl: a kl_coefficient of 0 stays 0 however it is adapted; begin above it")


@dataclass(frozen=True, kw_only=True)
class PPOSpec(PenalizedSpec):
    """Train a policy on its own responses against a reward model (PPO: Schulman et al. 2017; Ziegler et al. 2019)."""

    method: ClassVar[str] = "ppo"

    minibatches: int = setting(
        4, minimum=1, maximum=4096, help="Parts of a rollout, of whole prompts, that each move the weights once a pass."
    )
    ppo_epochs: int = setting(4, minimum=1, maximum=100, help="Passes over a rollout (K in PPO, algorithm 1).")
    value_model: str = setting(
        "reward",
        choices=("reward", "policy"),
        help="What the critic begins as: the reward model (Stiennon et al. 2020), or the policy with a new head.",
    )
    value_learning_rate: float | None = setting(
        None, minimum=0, maximum=1, help="Peak learning rate of the critic; unset: 1e-4 with lora, 1e-5 with full."
    )
    value_warmup_steps: int = setting(
        0, minimum=0, help="Steps (rollouts) at the beginning in which the critic learns and the policy stays."
    )
    save_critic: bool = setting(False, help="Save the critic too, as a reward model in outputs/critic.")
    value_clip: float | None = setting(
        0.2, above=0, help="How far a value may gain from the rollout's; null: values are not clipped."
    )
    gamma: float = setting(1.0, minimum=0, maximum=1, help="Discount a token.")
    lam: float = setting(0.95, minimum=0, maximum=1, help="Lambda of GAE (Schulman et al. 2016).")
    kl_estimator: str | None = setting(
        None,
        choices=KL_ESTIMATORS,
        help="k1, k2 or k3 (Schulman 2020); unset: k1 in the reward, k2 in the loss.",
    )
    kl_in: str = setting(
        "reward", choices=("reward", "loss"), help="Where the KL counts: each token's reward, or the loss."
    )
    whiten_advantages: bool = setting(True, help="Advantages of a rollout to mean 0 and variance 1.")
    whiten_rewards: bool = setting(False, help="Rewards of a rollout to variance 1; their mean stays.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.value_learning_rate is None:
            object.__setattr__(self, "value_learning_rate", VALUE_LEARNING_RATES[self.tuning])
        if self.kl_estimator is None:
            object.__setattr__(self, "kl_estimator", "k1" if self.kl_in == "reward" else "k2")
        if self.value_model == "reward" and not any(isinstance(term, ModelTerm) for term in self.terms):
            raise SpecError("value_model: no reward is a model that a critic could begin as; use value_model policy")
        if self.kl_in == "loss" and self.kl_estimator == "k1":
            raise SpecError("kl_estimator: k1 in the loss has a gradient of mean 0; use k2 or k3, or kl_in reward")


@dataclass(frozen=True, kw_only=True)
class RLOOSpec(PenalizedSpec):
    """The same without a critic: a response's baseline is the mean reward of its prompt's others (REINFORCE
    leave-one-out: Ahmadian et al. 2024)."""

    method: ClassVar[str] = "rloo"

    group_size: int = setting(4, minimum=2, maximum=1024, help="Responses to each prompt of a step (k).")
    normalize_advantages: bool = setting(False, help="Advantages of a rollout to mean 0 and variance 1.")


@dataclass(frozen=True, kw_only=True)
class GRPOSpec(PenalizedSpec):
    """The same with rewards standardised within each prompt's responses (GRPO: Shao et al. 2024)."""

    method: ClassVar[str] = "grpo"

    batch_size: int = setting(
        64, minimum=2, maximum=65536, help="Responses of a step (rollout): group_size to each of its prompts."
    )
    group_size: int = setting(8, minimum=2, maximum=1024, help="Responses to each prompt of a step (G).")
    kl_coefficient: float = setting(0.04, minimum=0, maximum=100, help="Weight of the KL (k3) in the loss, a token.")
    scale_advantages: bool = setting(
        True, help="Divide by the standard deviation of the group's scores; false as in Dr. GRPO (Liu et al. 2025)."
    )
    loss_mean: str = setting(
        "response",
        choices=("response", "token"),
        help="Mean over responses of their tokens' mean (the paper), or over all tokens (DAPO, Yu et al. 2025).",
    )


@dataclass(frozen=True, kw_only=True)
class OnlineDPOSpec(OnlineSpec):
    """DPO on pairs of the policy's own: the best and the worst of each prompt's responses, by the reward model (Guo et
    al. 2024)."""

    method: ClassVar[str] = "online-dpo"

    group_size: int = setting(2, minimum=2, maximum=1024, help="Responses to each prompt, of which two are learned.")
    beta: float = setting(0.1, above=0, maximum=100, help="Strength of the pull towards the reference.")


@dataclass(frozen=True, kw_only=True)
class CheckSpec(_Spec):
    """Answer held-out prompts with a policy, and check the answers by the prompts' verifiers: pass@1 and pass@k."""

    method: ClassVar[str] = "check"

    model: str = setting(EMBEDDED_MODEL, help=f"{EMBEDDED_MODEL}, a directory, or a hub id.")
    data: str | dict[str, str] = setting(  # noqa: RUF009 (a field, as everywhere here)
        help="A directory with test.jsonl of rows {prompt, verifier}, or a mapping split -> file."
    )
    test_prompts: int = setting(200, minimum=2, maximum=100000, help="Held-out prompts that are answered.")
    test_samples: int = setting(4, minimum=1, maximum=1024, help="Answers to each of them.")
    pass_k: int = setting(4, minimum=1, help="k of pass@k; at most test_samples.")
    temperature: float = setting(1.0, above=0, maximum=10, help="Temperature of the answers.")
    top_p: float = setting(1.0, above=0, maximum=1, help="Sample from the likeliest tokens that hold this mass.")
    response_tokens: int = setting(256, minimum=1, help="Longest answer.")
    max_length: int = setting(
        1024, minimum=8, help="Tokens of prompt and response_tokens together; longer prompts are dropped and counted."
    )
    generation_batch_size: int = setting(64, minimum=1, maximum=65536, help="Answers made at once.")
    workers: int | None = setting(None, minimum=1, maximum=1024, help="Processes that verify; unset: one a core.")
    reward_model: str | None = setting(None, help="The model of verifiers of kind reward; unset: such are refused.")
    snapshot_sha256: str | None = setting(None, help="Hash of the snapshot the data came from, for provenance.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pass_k > self.test_samples:
            raise SpecError(f"pass_k: {self.pass_k} is more than test_samples {self.test_samples}; raise test_samples")
        if self.response_tokens >= self.max_length:
            raise SpecError(
                f"response_tokens: {self.response_tokens} leave no room for a prompt in max_length {self.max_length}"
            )
        if isinstance(self.data, dict) and set(self.data) != {"test"}:
            raise SpecError(f"data: name the test split alone, got {', '.join(map(str, self.data)) or 'none'}")


@dataclass(frozen=True, kw_only=True)
class GenerateSpec(_Spec):
    """Sample responses from a policy."""

    method: ClassVar[str] = "generate"

    model: str = setting(EMBEDDED_MODEL, help=f"{EMBEDDED_MODEL}, a directory, or a hub id.")
    prompts: str = setting(help="JSONL file of rows {prompt_id, prompt}.")
    n: int = setting(1, minimum=1, maximum=1024, help="Responses a prompt.")
    max_new_tokens: int = setting(128, minimum=1, help="Longest response in tokens.")
    temperature: float = setting(0.9, minimum=0, maximum=10, help="0: greedy, the likeliest token each time.")
    top_p: float = setting(0.95, above=0, maximum=1, help="Sample from the likeliest tokens that hold this mass.")
    batch_size: int = setting(32, minimum=1, maximum=4096, help="Responses made at once.")


@dataclass(frozen=True, kw_only=True)
class ScoreSpec(_Spec):
    """Score responses with a reward model."""

    method: ClassVar[str] = "score"

    model: str = setting(help="A reward model's directory.")
    data: str = setting(help="JSONL file of rows {response_id, prompt, response}.")
    batch_size: int = setting(16, minimum=1, maximum=4096, help="Responses scored at once.")


@dataclass(frozen=True, kw_only=True)
class AdviseSpec(_Spec):
    """Say which of SFT, RFT and RLHF fits some data, and why."""

    method: ClassVar[str] = "advise"

    data: str = setting(help="JSONL file of prompts, right answers and comparisons.")
    model: str | None = setting(
        None, help="A policy that answers prompts directly and thinking aloud; unset: that is not tried."
    )
    trial_prompts: int = setting(64, minimum=2, maximum=10_000, help="Prompts that the model answers in either way.")
    max_new_tokens: int = setting(256, minimum=1, help="Longest answer in tokens; too low speaks against thinking.")
    many: int = setting(100_000, minimum=1, help="Right answers above which there are plenty.")
    few: int = setting(100, minimum=1, help="Right answers that show their reasoning, enough to imitate it.")
    some: int = setting(10, minimum=1, help="Right answers below which there are as good as none.")
    checkable: float = setting(
        0.9, minimum=0, maximum=1, help="Share of prompts with a verifier, and of right answers that it accepts."
    )
    fooled: float = setting(
        0.05, minimum=0, maximum=1, help="Share of answers to other prompts that a verifier may accept."
    )
    preferences: int = setting(500, minimum=1, help="Comparisons that a reward model needs at least.")


@dataclass(frozen=True, kw_only=True)
class VerifySpec(_Spec):
    """Check responses by program, each by the verifier of its row."""

    method: ClassVar[str] = "verify"

    data: str = setting(help="JSONL file of rows {response_id, prompt, response, verifier}.")
    workers: int | None = setting(None, minimum=1, maximum=1024, help="Processes that verify; unset: one a core.")
    reward_model: str | None = setting(None, help="The model of verifiers of kind reward; unset: such are refused.")


Spec = Union[  # noqa: UP007 (a runtime alias, read by get_args)
    RewardSpec,
    SFTSpec,
    DPOSpec,
    KTOSpec,
    RejectionSpec,
    PPOSpec,
    RLOOSpec,
    GRPOSpec,
    OnlineDPOSpec,
    CheckSpec,
    GenerateSpec,
    ScoreSpec,
    AdviseSpec,
    VerifySpec,
]
SPECS: dict[str, type[Spec]] = {kind.method: kind for kind in get_args(Spec)}
Settings = TypeVar("Settings")


def parse_spec(mapping: Mapping[str, Any]) -> Spec:
    """The spec a mapping describes.

    Raises SpecError naming the field for an unknown key or method, a missing value, a wrong type or range.
    """
    if not isinstance(mapping, Mapping):
        raise SpecError(f"a spec is a mapping of settings, not {type(mapping).__name__}")
    method = mapping.get("method")
    if not isinstance(method, str) or method not in SPECS:
        raise SpecError(f"method: {name_nearest(str(method), METHODS)}")
    settings = {key: value for key, value in mapping.items() if key != "method"}
    return build_settings(SPECS[method], settings=settings, owner=f"method {method}")


def build_settings(kind: type[Settings], *, settings: Mapping[str, Any], owner: str) -> Settings:
    """The dataclass of these settings; its fields are made by `setting`, and `check_settings` checks their values.

    owner: whose settings they are, for messages. Raises SpecError for an unknown key or a missing one.
    """
    known = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in settings:
        if key not in known:
            raise SpecError(f"{name_nearest(str(key), tuple(known))} ({owner})")
    missing = [name for name, item in known.items() if item.default is dataclasses.MISSING and name not in settings]
    if missing:
        raise SpecError(f"{missing[0]}: required by {owner}: {known[missing[0]].metadata['help']}")
    return kind(**settings)


def check_settings(settings: Any) -> None:
    """Check type and range of every field of a frozen dataclass made by `setting`. Raises SpecError naming the field.

    Numbers and lists become what the field wants: an int becomes a float, a list a tuple.
    """
    hints = get_type_hints(type(settings))
    for item in dataclasses.fields(settings):
        value = _check_type(item.name, getattr(settings, item.name), expected=hints[item.name])
        _check_range(item.name, value, limits=item.metadata)
        object.__setattr__(settings, item.name, value)


def spec_to_dict(spec: _Spec) -> dict[str, Any]:
    """The plain mapping of a spec, method first; `parse_spec` reads it back to an equal spec."""
    return {"method": spec.method, **dataclasses.asdict(spec)}


@dataclass(frozen=True)
class FieldDescription:
    """One setting of a method, for forms and documentation. `type` reads like "int or None"."""

    name: str
    type: str
    default: Any
    required: bool
    help: str
    choices: tuple[str, ...] | None
    minimum: float | None
    maximum: float | None


def describe_fields(method: str) -> list[FieldDescription]:
    """Every setting of a method in the order of its dataclass. Raises SpecError for an unknown method."""
    if method not in SPECS:
        raise SpecError(f"method: {name_nearest(method, METHODS)}")
    hints = get_type_hints(SPECS[method])
    return [_describe(item, hint=hints[item.name]) for item in dataclasses.fields(SPECS[method])]


def _describe(item: dataclasses.Field[Any], *, hint: Any) -> FieldDescription:
    required = item.default is dataclasses.MISSING
    limits = item.metadata
    return FieldDescription(
        name=item.name,
        type=_type_name(hint),
        default=None if required else item.default,
        required=required,
        help=limits["help"],
        choices=limits["choices"],
        minimum=limits["minimum"] if limits["minimum"] is not None else limits["above"],
        maximum=limits["maximum"],
    )


def name_nearest(name: str, known: tuple[str, ...]) -> str:
    """The sentence for a name that is not known, with the nearest that is."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
    return f"unknown '{name}': {hint}"


def _type_name(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in get_args(hint))
    if get_origin(hint) is dict:
        return "mapping"
    if get_origin(hint) is tuple:
        return "list"
    return "None" if hint is type(None) else hint.__name__


def _check_type(name: str, value: Any, *, expected: Any) -> Any:
    """The value as `expected` wants it (an int becomes a float where a float is meant). Raises SpecError."""
    options = get_args(expected) if get_origin(expected) in (Union, types.UnionType) else (expected,)
    for option in options:
        kind = typing.get_origin(option) or option
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            if abs(value) > LARGEST_NUMBER:
                raise SpecError(f"{name}: the number is too large")
            return float(value)
        if kind is dict and isinstance(value, Mapping):
            return dict(value)
        if kind is tuple and isinstance(value, list):
            return tuple(value)
        # bool is a subclass of int in Python; `epochs: true` is a slip, not a 1.
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            if isinstance(value, str) and not is_plain_text(value):
                raise SpecError(f"{name}: {value!r} holds a character that cannot be stored (NUL or half of a pair)")
            return value
    raise SpecError(f"{name}: expected {_type_name(expected)}, got {type(value).__name__} {value!r}")


def is_plain_text(text: str) -> bool:
    """Whether every file system and database can hold the text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _check_range(name: str, value: Any, *, limits: Mapping[str, Any]) -> None:
    choices = limits["choices"]
    if choices is not None and value is not None and value not in choices:
        raise SpecError(f"{name}: {name_nearest(str(value), choices)}")
    if isinstance(value, str) and not value.strip():
        raise SpecError(f"{name}: must not be empty")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not math.isfinite(value):
        raise SpecError(f"{name}: must be a finite number, got {value}")
    if limits["minimum"] is not None and value < limits["minimum"]:
        raise SpecError(f"{name}: must be at least {limits['minimum']}, got {value}")
    if limits["above"] is not None and value <= limits["above"]:
        raise SpecError(f"{name}: must be above {limits['above']}, got {value}")
    if limits["maximum"] is not None and value > limits["maximum"]:
        raise SpecError(f"{name}: must be at most {limits['maximum']}, got {value}")


def _check_splits(data: Mapping[str, Any]) -> None:
    for split, path in data.items():
        if split not in SPLITS:
            raise SpecError(f"data: {name_nearest(str(split), SPLITS)}")
        if not isinstance(path, str) or not path.strip():
            raise SpecError(f"data.{split}: expected a file name, got {path!r}")
    for split in ("train", "test"):
        if split not in data:
            raise SpecError(f"data: the {split} split is missing; a run needs train and test")


def _check_texts(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        if not isinstance(value, str) or not value.strip() or not is_plain_text(value):
            raise SpecError(f"{name}: expected a list of texts, got {value!r}")


def _check_trackers(trackers: str | tuple[Any, ...]) -> tuple[str, ...]:
    """The names as a tuple, each once."""
    names = trackers.split(",") if isinstance(trackers, str) else trackers
    checked = []
    for name in names:
        if not isinstance(name, str) or name.strip() not in TRACKERS:
            raise SpecError(f"trackers: {name_nearest(str(name).strip(), TRACKERS)}")
        checked.append(name.strip())
    return tuple(dict.fromkeys(checked))


def _check_margins(margins: Mapping[Any, Any]) -> dict[str, float]:
    """The table with its strengths as text, as JSON has them."""
    checked = {}
    for strength, margin in margins.items():
        if str(strength) not in STRENGTHS:
            raise SpecError(f"margins: {name_nearest(str(strength), STRENGTHS)}")
        if isinstance(margin, bool) or not isinstance(margin, int | float) or not math.isfinite(margin) or margin < 0:
            raise SpecError(f"margins.{strength}: expected a number of at least 0, got {margin!r}")
        checked[str(strength)] = float(margin)
    return checked


class Message(TypedDict):
    """One turn of a conversation; role is "system", "user" or "assistant"."""

    role: str
    content: str


class PromptRow(TypedDict):
    """A row of GenerateSpec.prompts. In files written by hand the prompt may be a string: one user turn."""

    prompt_id: str
    prompt: list[Message]


class VerifiablePromptRow(TypedDict):
    """A row of method rejection. verifier: {kind, …}, or the same as JSON text, as snapshots have it."""

    prompt_id: NotRequired[str]
    prompt: list[Message]
    verifier: dict[str, Any]


class AttemptRow(TypedDict):
    """A row of attempts.jsonl: one checked response. index counts from 0 within a prompt's attempts of a round."""

    prompt_id: str
    index: int
    response: str
    finish_reason: str
    n_tokens: int
    passed: bool
    score: float
    reason: str


class ResponseRow(TypedDict):
    """A row of outputs/responses.jsonl. index counts from 0 within a prompt; finish_reason is "eos" or "length"."""

    prompt_id: str
    index: int
    response: str
    finish_reason: str
    n_tokens: int


class ToScoreRow(TypedDict):
    """A row of ScoreSpec.data."""

    response_id: str
    prompt: list[Message]
    response: str


class ScoreRow(TypedDict):
    """A row of outputs/scores.jsonl. score is None for a text too long for the model; `reason` says so.

    std: standard deviation of the score's difference from the mean training response, where the model knows it.
    attributes: of a model trained on ratings, the rating it expects on each scale; the score is their weighted sum.
    """

    response_id: str
    score: float | None
    std: NotRequired[float]
    attributes: NotRequired[dict[str, float]]


class ToVerifyRow(TypedDict):
    """A row of VerifySpec.data. verifier: {kind, …}."""

    response_id: str
    prompt: list[Message]
    response: str
    verifier: dict[str, Any]


class VerdictRow(TypedDict):
    """A row of outputs/verdicts.jsonl.

    passed and score are None, and kind is empty, where the verifier cannot be run; `reason` says why.
    """

    response_id: str
    kind: str
    passed: bool | None
    score: float | None
    reason: str
    seconds: float


class PreferenceRow(TypedDict, total=False):
    """A row of train.jsonl, validation.jsonl and test.jsonl. Strings stand for one turn; other keys are kept aside.

    prompt (or a beginning that both sides share), chosen and rejected are needed. p: probability that chosen is the
    better one. group_id: pairs of one judgement share it. strength: 0 to 3, of which only a stated table makes margins.
    """

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    margin: float
    strength: int | None
    weight: float
    p: float
    group_id: str


class ExampleRow(TypedDict, total=False):
    """A row to imitate (method sft): either prompt and completion (or response), or messages with assistant turns."""

    prompt: list[Message]
    completion: list[Message]
    response: str
    messages: list[Message]


class LabelledRow(TypedDict):
    """A row of method kto: a response, and whether it is one to give."""

    prompt: list[Message]
    completion: list[Message]
    label: bool


class RankingRow(TypedDict, total=False):
    """The other kind of row those files may hold: all responses of one judgement.

    prompt, responses and ranks (1 = best, equal = tie, [] = no order given) are needed. task "best" or "best-worst"
    says that only those were named, so that equal ranks are no ties. weight is that of the whole ranking.
    """

    prompt: list[Message]
    responses: list[str]
    ranks: list[int]
    task: str
    weight: float
    strength: int | None
    group_id: str


class RatedRow(TypedDict, total=False):
    """A row for loss ratings: one response and its ratings by scale; a scale may be missing.

    Rows of the snapshot format `ratings` say the same as `scales` (names) and `values`.
    """

    prompt: list[Message]
    response: str
    ratings: dict[str, float]
    scales: list[str]
    values: list[float]
