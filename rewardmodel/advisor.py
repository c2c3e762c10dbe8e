"""Which method fits some data, and why: SFT, reinforced fine-tuning (RFT) with verifiers, or RLHF.

A tree of yes-or-no questions. Data with right answers in plenty is imitated (SFT). Answers that a program can check
need few right ones: the model learns from those of its own that pass (RFT: Luong et al. 2024, "ReFT"; Singh et al.
2023, "Beyond human data"), which pays where thinking aloud helps it to be right. Where nobody knows the right answer
and no program can tell, people judge (RLHF: Ouyang et al. 2022). Often one follows the other: see `Advice.following`.

    advise(Evidence(prompts=400, checked=Share(380, 400))).method    # "rft"

What is known of the data comes from `evidence`; here is no file, no model and no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from rewardmodel.contract import SpecError, name_nearest
from rewardmodel.metrics import wilson_interval

METHODS = ("sft", "rft", "rlhf")

COMPARISON: tuple[dict[str, str], ...] = (
    {
        "method": "sft",
        "name": "Supervised fine-tuning",
        "data": "right answers to imitate, best in the thousands",
        "ability": "format, tone, knowledge that the answers hold; no better than they are",
        "check": "none while training: the answers must be right",
        "use": "a first model of a task, a house style, an extraction",
    },
    {
        "method": "rft",
        "name": "Reinforced fine-tuning with verifiers",
        "data": "prompts, and a program that tells right from wrong; few or no answers",
        "ability": "reasoning: what the model gets right now and then, it gets right more often",
        "check": "a verifier on every attempt: mathematics, code, constraints, logic",
        "use": "mathematics, code, queries, structured output",
    },
    {
        "method": "rlhf",
        "name": "Reinforcement learning from human feedback",
        "data": "people's choices between responses, best in the thousands",
        "ability": "what people prefer but cannot write down: helpfulness, tact, safety",
        "check": "people, and a reward model that learned from them",
        "use": "assistants, summaries, creative writing",
    },
)
"""The three beside each other, by method."""


@dataclass(frozen=True)
class Share:
    """`count` of `total`, and Wilson's 95 % interval; (0, 1) where nothing was counted."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The proportion, 0 of nothing."""
        return self.count / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the proportion."""
        return wilson_interval(self.count, n=self.total) if self.total else (0.0, 1.0)


@dataclass(frozen=True)
class Trial:
    """The same prompts answered directly and thinking aloud: how many were right, and the paired 95 % interval."""

    prompts: int
    direct: int
    aloud: int
    gain: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Evidence:
    """What is known of some data.

    prompts: rows in all. labelled: those with a usable right answer; unusable: answers that are empty, said twice or
    refused by their own verifier. worked: labelled rows that show their reasoning. checked: of all prompts, those whose
    answers a program can check. references: of the right answers tried on their verifier, those that passed; strangers:
    of the answers to other prompts tried on it, those that passed. preferences: comparisons by people; agreement: of
    the pairs judged more than once, those on which all agree.
    """

    prompts: int = 0
    labelled: int = 0
    unusable: int = 0
    worked: int = 0
    checked: Share = Share(0, 0)
    references: Share = Share(0, 0)
    strangers: Share = Share(0, 0)
    preferences: int = 0
    agreement: Share = Share(0, 0)
    trial: Trial | None = None


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Where the answers turn.

    many: labelled rows that are enough to imitate. few: rows that show their reasoning, below which there is too little
    of it to imitate. some: labelled rows below which there are as good as none. checkable:
    share of prompts that a program can check, and of right answers that it accepts. fooled: share of wrong answers that
    a verifier may accept and still be called one. preferences: comparisons that a reward model needs at least.
    """

    many: int = 100_000
    few: int = 100
    some: int = 10
    checkable: float = 0.9
    fooled: float = 0.05
    preferences: int = 500

    def __post_init__(self) -> None:
        for name in ("many", "few", "some", "preferences"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name}: must be at least 1, got {getattr(self, name)}")
        for name in ("checkable", "fooled"):
            if not 0 <= getattr(self, name) <= 1:
                raise SpecError(f"{name}: must lie between 0 and 1, got {getattr(self, name)}")

    @classmethod
    def parse(cls, mapping: Mapping[str, Any]) -> Thresholds:
        """Thresholds by name. Raises SpecError for an unknown name, or a value of another kind or out of range."""
        kinds = {item.name: float if item.type == "float" else int for item in fields(cls)}
        for name, value in mapping.items():
            if name not in kinds:
                raise SpecError(f"threshold {name_nearest(name, tuple(kinds))}")
            whole = kinds[name] is int
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise SpecError(f"{name}: expected {'a whole number' if whole else 'a number'}, got {value!r}")
        return cls(**mapping)


@dataclass(frozen=True)
class Answer:
    """yes or no, why, whether the evidence leaves no doubt, and what would settle or change it."""

    yes: bool
    because: str
    certain: bool = True
    change: str = ""


@dataclass(frozen=True)
class Question:
    """A node of the tree: where yes and no lead, to another node or to a method."""

    text: str
    yes: str
    no: str
    ask: Callable[[Evidence, Thresholds], Answer]


def ask_labels(evidence: Evidence, limits: Thresholds) -> Answer:
    """Whether there are right answers."""
    found = f"{evidence.labelled:,} of {evidence.prompts:,} prompts have a right answer that can be used"
    if evidence.unusable:
        found += f" ({evidence.unusable:,} more are empty, said twice or refused by their own verifier)"
    missing = limits.some - evidence.labelled
    change = "" if missing <= 0 else f"{missing:,} more rows with right answers would count as labels"
    return Answer(evidence.labelled >= limits.some, found, change=change)


def ask_checkable(evidence: Evidence, limits: Thresholds) -> Answer:
    """Whether a program can tell right answers from wrong ones, as far as verifiers are there and were tried."""
    checked, references, strangers = evidence.checked, evidence.references, evidence.strangers
    if not checked.total:
        return Answer(False, "there are no prompts", certain=False, change="prompts with verifiers")
    found = [f"{checked.count:,} of {checked.total:,} prompts carry a verifier"]
    shares = [(checked.value, checked.value, limits.checkable, 1)]
    if references.total:
        found.append(f"their verifiers accept {references.count:,} of {references.total:,} right answers")
        low, high = references.interval
        shares.append((low, high, limits.checkable, 1))
    if strangers.total:
        found.append(f"and {strangers.count:,} of {strangers.total:,} answers to other prompts")
        low, high = strangers.interval
        shares.append((low, high, limits.fooled, -1))
    yes = (
        checked.value >= limits.checkable
        and (not references.total or references.value >= limits.checkable)
        and (not strangers.total or strangers.value <= limits.fooled)
    )
    sure = all(low >= limit or high < limit if sign > 0 else high <= limit or low > limit
               for low, high, limit, sign in shares)  # fmt: skip
    if yes and not references.total:
        return Answer(True, ", ".join(found), certain=False, change="right answers to try the verifiers on")
    change = "" if sure else "more right answers to try the verifiers on"
    if not yes:
        change = "a verifier for more of the prompts, or one that tells right from wrong more often"
    return Answer(yes, ", ".join(found), certain=sure, change=change)


def ask_plenty(evidence: Evidence, limits: Thresholds) -> Answer:
    """Whether there are enough right answers to imitate, whatever the task."""
    yes = evidence.labelled > limits.many
    found = f"{evidence.labelled:,} labelled rows, where more than {limits.many:,} are plenty"
    missing = limits.many + 1 - evidence.labelled
    return Answer(yes, found, change="" if yes else f"{missing:,} more labelled rows, and SFT needs no other reason")


def ask_reasoning(evidence: Evidence, limits: Thresholds) -> Answer:
    """Whether the model is right more often when it thinks aloud, as a trial showed."""
    trial = evidence.trial
    if trial is None:
        said = "not measured, and taken for no"
        return Answer(False, said, certain=False, change="a trial with a model (--model) on prompts with verifiers")
    low, high = trial.interval
    found = (
        f"on {trial.prompts:,} prompts {trial.aloud:,} were right thinking aloud and {trial.direct:,} directly: "
        f"{trial.gain:+.1%} [{low:+.1%}, {high:+.1%}]"
    )
    sure = low > 0 or high <= 0
    return Answer(trial.gain > 0, found, certain=sure, change="" if sure else "a trial on more prompts")


def ask_worked(evidence: Evidence, limits: Thresholds) -> Answer:
    """Whether there is enough shown reasoning to imitate."""
    found = f"{evidence.worked:,} labelled rows show their reasoning, where {limits.few:,} are enough to imitate"
    yes = evidence.worked >= limits.few
    missing = limits.few - evidence.worked
    return Answer(yes, found, change="" if yes else f"{missing:,} more rows that show how the answer is found")


TREE: dict[str, Question] = {
    "labels": Question("Are there right answers?", yes="plenty", no="unlabelled", ask=ask_labels),
    "unlabelled": Question("Can a program check the answers?", yes="rft", no="rlhf", ask=ask_checkable),
    "plenty": Question("Are there more than enough of them?", yes="sft", no="reasoning", ask=ask_plenty),
    "reasoning": Question("Does thinking aloud help?", yes="worked", no="sft", ask=ask_reasoning),
    "worked": Question("Is there enough reasoning to imitate?", yes="sft", no="checkable", ask=ask_worked),
    "checkable": Question("Can a program check the answers?", yes="rft", no="sft", ask=ask_checkable),
}
ROOT = "labels"


@dataclass(frozen=True)
class Step:
    """One question that was answered on the way."""

    node: str
    question: str
    answer: str
    because: str
    certain: bool
    change: str


@dataclass(frozen=True)
class Advice:
    """A method, the way to it, the steps that would follow it, and what it rests on."""

    method: str
    path: tuple[Step, ...]
    following: tuple[str, ...]
    notes: tuple[str, ...]
    evidence: Evidence
    thresholds: Thresholds

    @property
    def certain(self) -> bool:
        """Whether every answer on the way was beyond doubt."""
        return all(step.certain for step in self.path)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: shares as {count, total, value, interval}."""
        evidence = asdict(self.evidence)
        for name, value in vars(self.evidence).items():
            if isinstance(value, Share):
                evidence[name] = {**asdict(value), "value": value.value, "interval": list(value.interval)}
        return {
            "method": self.method,
            "certain": self.certain,
            "path": [asdict(step) for step in self.path],
            "following": list(self.following),
            "notes": list(self.notes),
            "evidence": evidence,
            "thresholds": asdict(self.thresholds),
        }


def advise(evidence: Evidence, *, thresholds: Thresholds | None = None) -> Advice:
    """Walk down the tree. Raises SpecError where there is nothing to go by."""
    limits = thresholds or Thresholds()
    if not evidence.prompts and not evidence.preferences:
        raise SpecError("there are no prompts, answers or preferences to go by")
    node, path = ROOT, []
    while node in TREE:
        question = TREE[node]
        answer = question.ask(evidence, limits)
        said = "yes" if answer.yes else "no"
        path.append(Step(node, question.text, said, answer.because, answer.certain, answer.change))
        node = question.yes if answer.yes else question.no
    following = follow(node, evidence=evidence, limits=limits)
    notes = remark(node, evidence=evidence, limits=limits)
    return Advice(node, tuple(path), following, notes, evidence, limits)


def follow(method: str, *, evidence: Evidence, limits: Thresholds) -> tuple[str, ...]:
    """What may come after a method: SFT for the form, RFT for what can be checked, RLHF for what people prefer."""
    later = []
    if method == "sft" and ask_checkable(evidence, limits).yes:
        later.append("rft")
    if method != "rlhf" and evidence.preferences >= limits.preferences:
        later.append("rlhf")
    return tuple(later)


def remark(method: str, *, evidence: Evidence, limits: Thresholds) -> tuple[str, ...]:
    """What stands in the way of the method, or speaks about its data."""
    notes = []
    if method == "rlhf" and evidence.preferences < limits.preferences:
        notes.append(
            f"There are {evidence.preferences:,} comparisons; a reward model needs {limits.preferences:,} or more. "
            "Have people rank responses first."
        )
    if method == "rlhf" and evidence.agreement.total:
        share, (low, high) = evidence.agreement, evidence.agreement.interval
        notes.append(
            f"People agree on {share.count:,} of {share.total:,} pairs judged more than once "
            f"({share.value:.0%}, {low:.0%} to {high:.0%}); no reward model can agree with them more often."
        )
    if method == "sft" and evidence.labelled < limits.few:
        notes.append(f"{evidence.labelled:,} rows teach a form at most; more right answers would help first.")
    return tuple(notes)
