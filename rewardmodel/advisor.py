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
from dataclasses import asdict, dataclass, field, fields
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
class Sentence:
    """Words with places for figures, %(name)s each, so that whoever shows them can translate the words."""

    text: str
    values: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.text % self.values


def say(text: str, **figures: int | str) -> Sentence:
    """The sentence with whole numbers in groups of three digits."""
    return Sentence(text, {name: _show(figure) for name, figure in figures.items()})


def _show(figure: int | str) -> str:
    return f"{figure:,}" if isinstance(figure, int) else figure


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


@dataclass(frozen=True)
class Answer:
    """yes or no, why, whether the evidence leaves no doubt, and what would settle or change it."""

    yes: bool
    because: tuple[Sentence, ...]
    certain: bool = True
    change: Sentence | None = None


@dataclass(frozen=True)
class Question:
    """A node of the tree: where yes and no lead, to another node or to a method; `turns` says where yes begins."""

    text: str
    yes: str
    no: str
    ask: Callable[[Evidence, Thresholds], Answer]
    turns: Callable[[Thresholds], Sentence]


def ask_labels(evidence: Evidence, limits: Thresholds) -> Answer:
    """Whether there are right answers."""
    found = [
        say(
            "%(labelled)s of %(prompts)s prompts have a right answer that can be used",
            labelled=evidence.labelled,
            prompts=evidence.prompts,
        )
    ]
    if evidence.unusable:
        found.append(
            say("%(n)s more are empty, said twice or refused by their own verifier", n=evidence.unusable),
        )
    missing = limits.some - evidence.labelled
    change = None if missing <= 0 else say("%(n)s more rows with right answers would count as labels", n=missing)
    return Answer(evidence.labelled >= limits.some, tuple(found), change=change)


def ask_checkable(evidence: Evidence, limits: Thresholds) -> Answer:
    """Whether a program can tell right answers from wrong ones, as far as verifiers are there and were tried."""
    checked, references, strangers = evidence.checked, evidence.references, evidence.strangers
    if not checked.total:
        return Answer(False, (say("there are no prompts"),), certain=False, change=say("prompts with verifiers"))
    shares = [(checked.value, checked.value, limits.checkable, 1)]
    if references.total:
        shares.append((*references.interval, limits.checkable, 1))
    if strangers.total:
        shares.append((*strangers.interval, limits.fooled, -1))
    yes = (
        checked.value >= limits.checkable
        and (not references.total or references.value >= limits.checkable)
        and (not strangers.total or strangers.value <= limits.fooled)
    )
    sure = all(low >= limit or high < limit if sign > 0 else high <= limit or low > limit
               for low, high, limit, sign in shares)  # fmt: skip
    if yes and not references.total:
        return Answer(
            True, _count_checked(evidence), certain=False, change=say("right answers to try the verifiers on")
        )
    change = None if sure else say("more right answers to try the verifiers on")
    if not yes:
        change = say("a verifier for more of the prompts, or one that tells right from wrong more often")
    return Answer(yes, _count_checked(evidence), certain=sure, change=change)


def _count_checked(evidence: Evidence) -> tuple[Sentence, ...]:
    checked, references, strangers = evidence.checked, evidence.references, evidence.strangers
    found = [say("%(n)s of %(total)s prompts carry a verifier", n=checked.count, total=checked.total)]
    if references.total:
        found.append(
            say("verifiers accept %(n)s of %(total)s right answers", n=references.count, total=references.total)
        )
    if strangers.total:
        found.append(
            say("they accept %(n)s of %(total)s answers to other prompts", n=strangers.count, total=strangers.total)
        )
    return tuple(found)


def ask_plenty(evidence: Evidence, limits: Thresholds) -> Answer:
    """Whether there are enough right answers to imitate, whatever the task."""
    yes = evidence.labelled > limits.many
    found = say("%(n)s labelled rows, where more than %(many)s are plenty", n=evidence.labelled, many=limits.many)
    missing = limits.many + 1 - evidence.labelled
    change = None if yes else say("%(n)s more labelled rows, and SFT needs no other reason", n=missing)
    return Answer(yes, (found,), change=change)


def ask_reasoning(evidence: Evidence, limits: Thresholds) -> Answer:
    """Whether the model is right more often when it thinks aloud, as a trial showed."""
    trial = evidence.trial
    if trial is None:
        wanted = say("a trial of thinking aloud with a model, on prompts with verifiers")
        return Answer(False, (say("not measured, and taken for no"),), certain=False, change=wanted)
    low, high = trial.interval
    found = say(
        "on %(prompts)s prompts %(aloud)s were right thinking aloud and %(direct)s directly: %(gain)s "
        "(%(low)s to %(high)s)",
        prompts=trial.prompts,
        aloud=trial.aloud,
        direct=trial.direct,
        gain=f"{100 * trial.gain:+.1f} %",
        low=f"{100 * low:+.1f} %",
        high=f"{100 * high:+.1f} %",
    )
    sure = low > 0 or high <= 0
    change = None if sure else say("a trial on more prompts")
    if not trial.direct and not trial.aloud:
        change = say("a trial with a model that is right now and then, or with longer answers")
    return Answer(trial.gain > 0, (found,), certain=sure, change=change)


def ask_worked(evidence: Evidence, limits: Thresholds) -> Answer:
    """Whether there is enough shown reasoning to imitate."""
    found = say(
        "%(n)s labelled rows show their reasoning, where %(few)s are enough to imitate",
        n=evidence.worked,
        few=limits.few,
    )
    yes = evidence.worked >= limits.few
    change = None if yes else say("%(n)s more rows that show how the answer is found", n=limits.few - evidence.worked)
    return Answer(yes, (found,), change=change)


def turn_checkable(limits: Thresholds) -> Sentence:
    """Where a program counts as able to check."""
    return say(
        "yes where %(checkable)s of the prompts carry a verifier, verifiers accept %(checkable)s of the right answers, "
        "and at most %(fooled)s of answers to other prompts",
        checkable=_percent(limits.checkable),
        fooled=_percent(limits.fooled),
    )


TREE: dict[str, Question] = {
    "labels": Question(
        "Are there right answers?",
        yes="plenty",
        no="unlabelled",
        ask=ask_labels,
        turns=lambda limits: say("yes from %(some)s rows on", some=limits.some),
    ),
    "unlabelled": Question(
        "Can a program check the answers?", yes="rft", no="rlhf", ask=ask_checkable, turns=turn_checkable
    ),
    "plenty": Question(
        "Are there more than enough of them?",
        yes="sft",
        no="reasoning",
        ask=ask_plenty,
        turns=lambda limits: say("yes above %(many)s rows", many=limits.many),
    ),
    "reasoning": Question(
        "Does thinking aloud help?",
        yes="worked",
        no="sft",
        ask=ask_reasoning,
        turns=lambda limits: say("yes where a model is right more often when it thinks aloud"),
    ),
    "worked": Question(
        "Is there enough reasoning to imitate?",
        yes="sft",
        no="checkable",
        ask=ask_worked,
        turns=lambda limits: say("yes from %(few)s rows on that show it", few=limits.few),
    ),
    "checkable": Question(
        "Can a program check the answers?", yes="rft", no="sft", ask=ask_checkable, turns=turn_checkable
    ),
}
ROOT = "labels"


@dataclass(frozen=True)
class Step:
    """One question that was answered on the way."""

    node: str
    question: str
    answer: str
    because: tuple[Sentence, ...]
    certain: bool
    change: Sentence | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with its sentences in words."""
        because = "; ".join(map(str, self.because))
        return {**vars(self), "because": because, "change": str(self.change or "")}


@dataclass(frozen=True)
class Advice:
    """A method, the way to it, the steps that would follow it, and what it rests on."""

    method: str
    path: tuple[Step, ...]
    following: tuple[str, ...]
    notes: tuple[Sentence, ...]
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
            "path": [step.to_dict() for step in self.path],
            "following": list(self.following),
            "notes": [str(note) for note in self.notes],
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


def remark(method: str, *, evidence: Evidence, limits: Thresholds) -> tuple[Sentence, ...]:
    """What stands in the way of the method, or speaks about its data."""
    notes = []
    if method == "rlhf" and evidence.preferences < limits.preferences:
        notes.append(
            say(
                "There are %(n)s comparisons; a reward model needs %(preferences)s or more. "
                "Have people rank responses first.",
                n=evidence.preferences,
                preferences=limits.preferences,
            )
        )
    if method == "rlhf" and evidence.agreement.total:
        share, (low, high) = evidence.agreement, evidence.agreement.interval
        notes.append(
            say(
                "People agree on %(n)s of %(total)s pairs judged more than once (%(share)s, %(low)s to %(high)s); "
                "no reward model can agree with them more often.",
                n=share.count,
                total=share.total,
                share=_percent(share.value),
                low=_percent(low),
                high=_percent(high),
            )
        )
    if method == "sft" and evidence.labelled < limits.few:
        notes.append(
            say("%(n)s rows teach a form at most; more right answers would help first.", n=evidence.labelled),
        )
    return tuple(notes)


def draw(advice: Advice) -> dict[str, Any]:
    """What a page needs to draw the advice without knowing the tree, as JSON: the whole tree with the way marked, the
    notes, and the three methods. Sentences stand as {text, values}, for who translates them."""
    steps = {step.node: step for step in advice.path}
    return {
        "tree": _draw_node(ROOT, steps=steps, limits=advice.thresholds),
        "notes": [asdict(note) for note in advice.notes],
        "comparison": [dict(row) for row in COMPARISON],
    }


def _draw_node(node: str, *, steps: Mapping[str, Step], limits: Thresholds) -> dict[str, Any]:
    """A question with its two branches; one that was not asked has no answer."""
    question, step = TREE[node], steps.get(node)
    branches = []
    for answer, end in (("yes", question.yes), ("no", question.no)):
        below = {"node": _draw_node(end, steps=steps, limits=limits)} if end in TREE else {"method": end}
        branches.append({"answer": answer, "taken": step is not None and step.answer == answer, **below})
    return {
        "name": node,
        "question": question.text,
        "turns": asdict(question.turns(limits)),
        "answer": step.answer if step else None,
        "because": [asdict(sentence) for sentence in step.because] if step else [],
        "certain": step.certain if step else None,
        "change": asdict(step.change) if step and step.change else None,
        "branches": branches,
    }
