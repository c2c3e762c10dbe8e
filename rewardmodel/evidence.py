"""What the advisor goes by, read from a project's files: answers, verifiers, comparisons, and whether verifiers work.

A verifier is tried on the right answer to its own prompt, which it should accept, and on a stranger: the right answer
to another prompt of the same kind of verifier, which it should refuse. Where there are many, a sample is tried. Left
out: whether right answers are right where no verifier says so.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from rewardmodel.advisor import COMPARISON, Advice, Evidence, Share, Thresholds, Trial, advise, draw
from rewardmodel.contract import AdviseSpec, GenerateSpec, InputError, Message
from rewardmodel.data import ProjectRow, VerifiableItem, hash_file, read_project_rows, text_of
from rewardmodel.metrics import matched_interval
from rewardmodel.progress import Progress
from rewardmodel.selection import normalise
from rewardmodel.verifiers.registry import Verifier, parse_verifier
from rewardmodel.verifiers.rows import verify_items

Row = ProjectRow[Verifier]

TRIED = 500  # rows at most on which verifiers are tried
STEPS, WORDS = 2, 20  # sentences or lines, and words, from which an answer shows its reasoning
DIRECTLY = "Give the final answer alone, without any explanation."
ALOUD = 'Think step by step. Then end with one line: "The answer is" and the final answer.'


def run_advise(spec: AdviseSpec, *, progress: Progress) -> dict[str, Any]:
    """The report of an advice: what `advise` says, and the drawing of it, for a page that knows no tree."""
    progress.start("reading")
    file = Path(spec.data)
    rows = read_project([file])
    advice = advise_on(rows, spec=spec, progress=progress)
    return {
        "method": spec.method,
        "data": {"rows": len(rows), "sha256": hash_file(file), "tried_at_most": TRIED},
        "model": spec.model,
        "advice": advice.to_dict(),
        "drawing": draw(advice),
    }


def advise_on(rows: Sequence[Row], *, spec: AdviseSpec, progress: Progress) -> Advice:
    """The advice on rows that were read, with a trial where the spec names a model."""
    evidence = collect_evidence(rows, seed=spec.seed, progress=progress)
    if spec.model is not None:
        trial = try_thinking_aloud(
            rows, spec=read_trial(spec, model=spec.model), n=spec.trial_prompts, seed=spec.seed, progress=progress
        )
        evidence = replace(evidence, trial=trial)
    limits = Thresholds(**{item.name: getattr(spec, item.name) for item in fields(Thresholds)})
    return advise(evidence, thresholds=limits)


def read_trial(spec: AdviseSpec, *, model: str) -> GenerateSpec:
    """How the model of a trial answers: the likeliest words each time."""
    return GenerateSpec(
        prompts=spec.data,
        model=model,
        max_new_tokens=spec.max_new_tokens,
        temperature=0.0,
        device=spec.device,
        precision=spec.precision,
        threads=spec.threads,
    )


def read_project(files: Sequence[Path]) -> list[Row]:
    """The rows of all files. Raises DataError naming file, line and field."""
    return [row for file in files for row in read_project_rows(file, parse_verifier=parse_verifier)]


def collect_evidence(rows: Sequence[Row], *, seed: int = 0, progress: Progress | None = None) -> Evidence:
    """What is known of the rows, without a trial. Raises SandboxUnavailable for code where nothing isolates it.

    A verifier or an answer counts for its prompt wherever in the files it stands.
    """
    verifiers = {_key(row.prompt): row.verifier for row in rows if row.verifier is not None}
    prompts = {_key(row.prompt) for row in rows}
    answered, empty, repeated = _sort_answers(rows)
    tried = [(key, answer) for key, answer in answered if key in verifiers]
    if len(tried) > TRIED:
        tried = random.Random(seed).sample(tried, TRIED)
    own = [(verifiers[key], answer) for key, answer in tried]
    passed = _verify(own, progress=progress)
    strangers = _pair_with_strangers(tried, verifiers=verifiers, seed=seed)
    fooled = _verify(strangers, progress=progress)
    refused = {pair for pair, accepted in zip(tried, passed, strict=True) if not accepted}
    usable = [pair for pair in answered if pair not in refused]
    return Evidence(
        prompts=len(prompts),
        labelled=len(usable),
        unusable=empty + repeated + len(refused),
        worked=sum(shows_reasoning(answer) for _prompt, answer in usable),
        checked=Share(len(verifiers), len(prompts)),
        references=Share(sum(passed), len(passed)),
        strangers=Share(sum(fooled), len(fooled)),
        preferences=sum(len(row.pairs) for row in rows),
        agreement=measure_agreement(rows),
    )


def _sort_answers(rows: Sequence[Row]) -> tuple[list[tuple[str, str]], int, int]:
    """(prompt, answer) of every different right answer, and how many are empty or said again."""
    kept: dict[tuple[str, str], tuple[str, str]] = {}
    empty = repeated = 0
    for row in rows:
        if row.answer is None:
            continue
        key = (_key(row.prompt), normalise(row.answer))
        if not key[1]:
            empty += 1
        elif key in kept:
            repeated += 1
        else:
            kept[key] = (key[0], row.answer)
    return list(kept.values()), empty, repeated


def _pair_with_strangers(
    tried: Sequence[tuple[str, str]], *, verifiers: dict[str, Verifier], seed: int
) -> list[tuple[Verifier, str]]:
    """Each verifier with another prompt's answer, in a ring through the answers of its kind. Answers that are the same
    as the right one are no strangers."""
    kinds: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key, answer in tried:
        kinds[verifiers[key].kind].append((key, answer))
    found = []
    for ring in kinds.values():
        random.Random(seed).shuffle(ring)
        for (key, answer), (other, stranger) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if key != other and normalise(answer) != normalise(stranger):
                found.append((verifiers[key], stranger))
    return found


def _verify(cases: Sequence[tuple[Verifier, str]], *, progress: Progress | None) -> list[bool]:
    items: list[VerifiableItem[Verifier]] = [VerifiableItem([], answer, verifier, {}) for verifier, answer in cases]
    return [verdict.passed for verdict in verify_items(items, progress=progress)] if items else []


def shows_reasoning(answer: str) -> bool:
    """Whether an answer is long enough, and in steps enough, to show how it is found."""
    steps = [part for part in re.split(r"\n+|(?<=[.!?;])\s+", answer.strip()) if part.strip()]
    return len(steps) >= STEPS and len(answer.split()) >= WORDS


def measure_agreement(rows: Sequence[Row]) -> Share:
    """Of the pairs of responses that were compared more than once, those on which all agree."""
    sides: dict[tuple[str, frozenset[str]], list[str]] = defaultdict(list)
    for row in rows:
        for pair in row.pairs:
            chosen, rejected = text_of(pair.chosen), text_of(pair.rejected)
            sides[_key(pair.prompt), frozenset((chosen, rejected))].append(chosen)
    repeated = [chosen for chosen in sides.values() if len(chosen) > 1]
    return Share(sum(len(set(chosen)) == 1 for chosen in repeated), len(repeated))


def try_thinking_aloud(
    rows: Sequence[Row], *, spec: GenerateSpec, n: int, seed: int = 0, progress: Progress | None = None
) -> Trial:
    """Let a model answer n prompts directly and thinking aloud, greedily, and verify both.

    Raises InputError where fewer than two prompts carry a verifier. What does not end within max_new_tokens is judged
    as it stands, so too low a limit speaks against thinking.
    """
    verifiers = {_key(row.prompt): row.verifier for row in rows if row.verifier is not None}
    prompts = {_key(row.prompt): row.prompt for row in rows}
    if len(verifiers) < 2:
        raise InputError("model: a trial of thinking aloud needs at least two prompts with verifiers")
    chosen = sorted(random.Random(seed).sample(sorted(verifiers), min(n, len(verifiers))))
    # Imported only now: advice without a trial needs no torch.
    from rewardmodel.generate import generate_responses, load_generator, read_sampling

    model, tokenizer, compute = load_generator(spec)
    right = []
    for words in (DIRECTLY, ALOUD):
        responses = generate_responses(
            model,
            tokenizer=tokenizer,
            prompts=[ask(prompts[key], words=words) for key in chosen],
            sampling=read_sampling(spec),
            compute=compute,
            progress=progress,
        )
        cases = [(verifiers[key], response.text) for key, response in zip(chosen, responses, strict=True)]
        right.append(np.asarray(_verify(cases, progress=progress), dtype=bool))  # (prompts,)
    direct, aloud = right
    gained, lost = int((aloud & ~direct).sum()), int((direct & ~aloud).sum())
    return Trial(
        prompts=len(chosen),
        direct=int(direct.sum()),
        aloud=int(aloud.sum()),
        gain=(gained - lost) / len(chosen),
        interval=matched_interval(gained, lost, n=len(chosen)),
    )


def ask(prompt: Sequence[Message], *, words: str) -> list[Message]:
    """The prompt with a sentence at the end of its last turn."""
    last = prompt[-1]
    return [*prompt[:-1], Message(role=last["role"], content=f"{last['content']}\n\n{words}")]


def render_advice(advice: Advice) -> str:
    """The advice as text: method, way through the tree, evidence, what would change it, and the three methods."""
    names = {row["method"]: row["name"] for row in COMPARISON}
    sure = "" if advice.certain else " (not certain: see below)"
    lines = [f"{names[advice.method]} ({advice.method}){sure}", "", "Why:"]
    for step in advice.path:
        mark = "" if step.certain else " (not certain)"
        lines.append(f"  {step.question} {step.answer}{mark}: {'; '.join(map(str, step.because))}")
    changes = [str(step.change) for step in advice.path if step.change]
    if changes:
        lines += ["", "What could change it:", *(f"  {change}" for change in changes)]
    if advice.following:
        lines += ["", f"Afterwards: {', then '.join(names[method] for method in advice.following)}"]
    lines += ["", "Evidence (95 % intervals):"]
    evidence = advice.evidence
    for label, value in (
        ("prompts", evidence.prompts),
        ("usable right answers", evidence.labelled),
        ("unusable right answers", evidence.unusable),
        ("that show their reasoning", evidence.worked),
        ("comparisons by people", evidence.preferences),
    ):
        lines.append(f"  {label}: {value:,}")
    for label, share in (
        ("prompts with a verifier", evidence.checked),
        ("right answers accepted", evidence.references),
        ("answers to other prompts accepted", evidence.strangers),
        ("pairs judged again alike", evidence.agreement),
    ):
        if share.total:
            low, high = share.interval
            lines.append(f"  {label}: {share.count:,} of {share.total:,} ({low:.3f} to {high:.3f})")
    lines += [f"\n{note}" for note in advice.notes]
    lines += ["", "The three methods:"]
    for row in COMPARISON:
        lines += [f"  {row['name']} ({row['method']})"]
        lines += [f"    {name}: {row[name]}" for name in ("data", "ability", "check", "use")]
    return "\n".join(lines)


def _key(prompt: Sequence[Message]) -> str:
    return json.dumps(list(prompt), sort_keys=True)
