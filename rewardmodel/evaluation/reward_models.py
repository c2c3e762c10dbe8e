"""Everything that a file of held-out judgements says of a reward model, as one mapping ready for JSON.

Scores come from `evaluate.reward_scores` alone. The figures of `evaluate.evaluate_reward_model` are part of these.
"""

from __future__ import annotations

import difflib
import gc
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rewardmodel.chat import EncodedPair, encode_pair, encode_split
from rewardmodel.compute import Compute
from rewardmodel.data import DataError, Pair, hash_file, read_rows, text_of
from rewardmodel.evaluate import longer_wins, read_heldout, reward_scores, summarize_pairs
from rewardmodel.evaluation import slices
from rewardmodel.evaluation.calibration import describe_calibration
from rewardmodel.evaluation.comparison import compare_margins
from rewardmodel.evaluation.length_control import describe_length_control
from rewardmodel.evaluation.provenance import warn_of_training_data
from rewardmodel.evaluation.robustness import (
    TRANSFORMATIONS,
    Variant,
    choose_pairs,
    describe_variant,
    read_paraphrases,
    transform_pair,
)
from rewardmodel.evaluation.sections import describe_sections, read_sections, score_row, settle_sections
from rewardmodel.evaluation.surprises import list_surprises
from rewardmodel.metrics import brier_score, pairwise_accuracy, wilson_interval
from rewardmodel.models import read_positions
from rewardmodel.progress import Progress
from rewardmodel.score import load_scorer
from rewardmodel.token_cache import Ids

TURNED_ROUND = 32


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to look at. slices: columns of the data. robustness_pairs: how many are scored in other forms; 0: none."""

    slices: tuple[str, ...] = ()
    sections: Path | None = None
    robustness_pairs: int = 100
    surprises: int = 50


@dataclass(frozen=True)
class Examination:
    """figures: ready for JSON. surprises, margins: rows for files; margins has one a usable pair, in their order."""

    figures: dict[str, Any]
    surprises: list[dict[str, Any]]
    margins: list[dict[str, Any]]


@dataclass(frozen=True)
class _Scored:
    """The usable pairs of a file and their scores by one model, (n, 2)."""

    pairs: list[EncodedPair]
    scores: np.ndarray
    dropped: dict[str, int]
    compute: Compute
    robustness: dict[str, Any] | None

    @property
    def margins(self) -> np.ndarray:
        return self.scores[:, 0] - self.scores[:, 1]


@dataclass(frozen=True)
class _Reader:
    """A loaded reward model and how it reads; `longest` is the most tokens of a conversation."""

    model: Any
    tokenizer: Any
    compute: Compute
    longest: int
    batch_size: int
    progress: Progress | None

    def score(self, pairs: Sequence[EncodedPair], *, phase: str = "evaluating") -> np.ndarray:
        return reward_scores(
            self.model,
            pairs=pairs,
            compute=self.compute,
            batch_size=self.batch_size,
            progress=self.progress,
            phase=phase,
        )


def examine_reward_model(
    model_name: str,
    *,
    data: str | Path,
    compare: str | None = None,
    settings: Settings | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> Examination:
    """Score the pairs of a file and describe them; with `compare`, beside another reward model on the same pairs.

    Raises InputError for a model that is none, a file without a usable pair, or a column that no row has.
    """
    settings = settings or Settings()
    data = Path(data)
    judgements = read_heldout(data)
    pairs = judgements.pairs
    rows = dict(read_rows(data))
    columns = _read_columns(rows, settings=settings, file=data)
    sections = _settle_sections(rows, settings=settings, file=data)
    given = [(pair, other) for pair in pairs for other in read_paraphrases(rows[pair.line], pair=pair, file=data)]

    def score(name: str, *, forms: int, given: Sequence[tuple[Pair, Pair]]) -> _Scored:
        model, tokenizer, compute = load_scorer(name, device=device, precision=precision, threads=threads)
        longest = read_positions(model) or 2**31
        split = encode_split(tokenizer, pairs=pairs, max_length=longest, dropped=judgements.dropped)
        if not split.pairs:
            raise DataError(f"{data}: no usable pair; dropped {split.dropped}")
        reader = _Reader(model, tokenizer, compute, longest, batch_size, progress)
        scores = reader.score(split.pairs)
        robustness = _probe_forms(reader, pairs=split.pairs, scores=scores, most=forms, given=given) if forms else None
        return _Scored(split.pairs, scores, split.dropped, compute, robustness)

    scored = score(model_name, forms=settings.robustness_pairs, given=given)
    own = [item.pair for item in scored.pairs]
    figures = {
        "model": model_name,
        "data": data.name,
        "data_sha256": hash_file(data),
        **_describe_pairs(scored),
        "slices": [*_slice_by_nature(scored, rows=rows, file=data), *_slice_by_columns(scored, columns=columns)],
        "robustness": scored.robustness,
        "warnings": warn_of_training_data(model_name, data=data),
    }
    if any(isinstance(row.get("chosen"), list) and isinstance(row["chosen"][0], str) for row in rows.values()):
        figures["best_of"] = _describe_rows(scored, pairs=pairs)
    if sections is not None:
        figures["sections"] = _describe_sections(scored, pairs=pairs, rows=rows, sections=sections)
    if compare is not None:
        gc.collect()  # the first model, before the second is loaded
        other = score(compare, forms=0, given=[])
        figures["comparison"] = {"other": compare, **_compare(scored, other=other, file=data)}
    temperature = figures["calibration"]["temperature"]["value"]
    return Examination(
        figures=figures,
        surprises=list_surprises(scored.margins, pairs=own, temperature=temperature, most=settings.surprises),
        margins=list(_list_margins(scored)),
    )


def _probe_forms(
    reader: _Reader,
    *,
    pairs: Sequence[EncodedPair],
    scores: np.ndarray,
    most: int,
    given: Sequence[tuple[Pair, Pair]],
) -> dict[str, Any]:
    """Score some pairs in other forms, and some turned round. given: (pair of the file, the same reworded)."""
    sample = choose_pairs(len(pairs), most=most)
    places = {id(encoded.pair): place for place, encoded in enumerate(pairs)}
    variants = [*_transform(pairs, sample=sample)]
    variants += [Variant("paraphrases", places[id(pair)], other) for pair, other in given if id(pair) in places]
    kept, left_out = _encode_variants(reader, pairs=pairs, variants=variants)
    changed = reader.score([encoded for _, encoded in kept], phase="other forms")
    few = sample[:TURNED_ROUND]
    turned = [replace(pairs[i], chosen_ids=pairs[i].rejected_ids, rejected_ids=pairs[i].chosen_ids) for i in few]
    mirrored = replace(reader, batch_size=max(1, reader.batch_size // 4)).score(turned, phase="turned round")
    negated = mirrored[:, 1] - mirrored[:, 0]
    return {
        "forms": _describe_forms(scores, variants=[variant for variant, _ in kept], changed=changed, left_out=left_out),
        "order": {
            "n": len(few),
            "largest_difference": float(np.abs(scores[few, 0] - scores[few, 1] - negated).max()),
        },
    }


def _describe_pairs(scored: _Scored) -> dict[str, Any]:
    """The figures that need nothing but scores, texts and prompts."""
    margins, pairs = scored.margins, scored.pairs
    prompt_ids = [item.pair.prompt_id for item in pairs]
    counts, edges = count_margins(margins)
    return {
        **summarize_pairs(margins, pairs=pairs),
        "brier": brier_score(margins),
        "baselines": {"longer_wins": longer_wins(pairs)},
        "dropped": scored.dropped,
        "device": scored.compute.device,
        "precision": scored.compute.precision,
        "calibration": describe_calibration(margins, prompt_ids=prompt_ids),
        "length": describe_length_control(margins, lengths=_lengths(pairs), prompt_ids=prompt_ids),
        "margins": {
            "mean": float(margins.mean()),
            "sd": float(margins.std()),
            "edges": edges.tolist(),
            "counts": counts.tolist(),
        },
    }


def count_margins(margins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(counts (b,), edges (b + 1,)) of a histogram of which 0 is an edge, with 10 to 40 bars."""
    bars = min(40, max(10, len(margins) // 10))
    width = float(np.ptp(margins)) / bars or 1.0
    first, last = np.floor(margins.min() / width), np.ceil(margins.max() / width)
    edges = width * np.arange(first, max(last, first + 1) + 1)
    return np.histogram(np.clip(margins, edges[0], edges[-1]), bins=edges)


def _lengths(pairs: Sequence[EncodedPair]) -> list[tuple[int, int]]:
    return [(len(text_of(item.pair.chosen)), len(text_of(item.pair.rejected))) for item in pairs]


def _slice_by_nature(scored: _Scored, *, rows: Mapping[int, dict[str, Any]], file: Path) -> Iterator[dict[str, Any]]:
    """Slices that need no asking: margin, length, and strength and agreement where the rows know them."""
    margins, pairs = scored.margins, [item.pair for item in scored.pairs]
    lengths = _lengths(scored.pairs)

    def cut(name: str, labels: tuple[Sequence[str | None], list[str]], **more: Any) -> dict[str, Any]:
        return {"by": name, "rows": slices.accuracy_by(labels[0], margins=margins, order=labels[1]), **more}

    yield cut("size of the margin", slices.label_margins(margins))
    yield cut("length (characters)", slices.label_lengths(lengths))
    strengths = [rows[pair.line].get("strength") for pair in pairs]
    if any(value is not None for value in strengths):
        yield cut("strength", slices.label_strengths(strengths))
    shares, ceiling = _read_agreement(pairs, rows=rows, file=file)
    if any(share is not None for share in shares):
        yield cut("agreement", slices.label_agreement(shares), ceiling=ceiling)


def _read_agreement(
    pairs: Sequence[Pair], *, rows: Mapping[int, dict[str, Any]], file: Path
) -> tuple[list[float | None], float | None]:
    """The share of judgements on the majority's side: the row's `agreement`, its `p`, or counted over rows."""
    if any("agreement" in rows[pair.line] for pair in pairs):
        return [_check_share(rows[pair.line].get("agreement"), file=file, line=pair.line) for pair in pairs], None
    if any(rows[pair.line].get("p") is not None for pair in pairs):
        return [pair.probability if rows[pair.line].get("p") is not None else None for pair in pairs], None
    return slices.count_agreement([(pair.prompt_id, text_of(pair.chosen), text_of(pair.rejected)) for pair in pairs])


def _check_share(value: Any, *, file: Path, line: int) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DataError(f"{file}, line {line}, agreement: expected a share from 0 to 1, found {value!r:.60}")
    return float(value)


def _read_columns(rows: Mapping[int, dict[str, Any]], *, settings: Settings, file: Path) -> dict[str, dict[int, Any]]:
    """{column: {line: value}} of the asked columns, and of `category` where the rows have it."""
    asked = list(dict.fromkeys(settings.slices))
    categories = [row.get("category") for row in rows.values()]
    if any(value is not None for value in categories) and not any(isinstance(v, dict | list) for v in categories):
        asked = list(dict.fromkeys([*asked, "category"]))
    columns = {name: {line: _look_up(row, name) for line, row in rows.items()} for name in asked}
    for name, values in columns.items():
        if all(value is None for value in values.values()):
            known = sorted({key for row in rows.values() for key in row} - {"prompt", "chosen", "rejected"})
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"rows have {', '.join(known) or 'no other columns'}"
            raise DataError(f"{file}: no row has '{name}' to slice by: {hint}")
        for line, value in values.items():
            if isinstance(value, dict | list):
                kind = "list" if isinstance(value, list) else "mapping"
                raise DataError(f"{file}, line {line}, {name}: a {kind} cannot be sliced by; name a plain column")
    return columns


def _look_up(row: dict[str, Any], name: str) -> Any:
    """row["a"]["b"] for "a.b", unless the row has a column of that very name."""
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _slice_by_columns(scored: _Scored, *, columns: dict[str, dict[int, Any]]) -> Iterator[dict[str, Any]]:
    for name, values in columns.items():
        labels, order = slices.label_column([values[item.pair.line] for item in scored.pairs])
        yield {"by": name, "rows": slices.accuracy_by(labels, margins=scored.margins, order=order)}


def _transform(pairs: Sequence[EncodedPair], *, sample: Sequence[int]) -> Iterator[Variant]:
    for name, transform in TRANSFORMATIONS.items():
        for place in sample:
            yield Variant(name, place, transform_pair(pairs[place].pair, transform=transform))


def _encode_variants(
    reader: _Reader, *, pairs: Sequence[EncodedPair], variants: Sequence[Variant]
) -> tuple[list[tuple[Variant, EncodedPair]], dict[str, Counter[str]]]:
    """The variants that read otherwise and fit, and how many of each name were left out and why."""
    kept = []
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    for variant in variants:
        encoded = encode_pair(reader.tokenizer, pair=variant.pair)
        before = pairs[variant.place]
        if _whole(encoded) == _whole(before):
            left_out[variant.name]["unchanged"] += 1
        elif encoded.length > reader.longest:
            left_out[variant.name]["too_long"] += 1
        else:
            kept.append((variant, encoded))
    return kept, left_out


def _whole(pair: EncodedPair) -> tuple[Ids, Ids]:
    return pair.prompt_ids + pair.chosen_ids, pair.prompt_ids + pair.rejected_ids


def _describe_forms(
    scores: np.ndarray, *, variants: Sequence[Variant], changed: np.ndarray, left_out: Mapping[str, Counter[str]]
) -> list[dict[str, Any]]:
    present = {variant.name for variant in variants} | set(left_out)
    names = [name for name in (*TRANSFORMATIONS, "paraphrases") if name in present]
    forms = []
    for name in names:
        own = [i for i, variant in enumerate(variants) if variant.name == name]
        figures = {"n": 0}
        if own:
            figures = describe_variant(scores[[variants[i].place for i in own]], after=changed[own])
        if name == "paraphrases":
            # One side or the prompt was reworded at a time: these compare forms that stand on both sides.
            figures = {key: value for key, value in figures.items() if key not in ("easy", "hard")}
        forms.append({"name": name, **figures, "left_out": dict(left_out.get(name, {}))})
    return forms


def _rows_right(scored: _Scored, *, pairs: Sequence[Pair]) -> tuple[dict[int, float], int]:
    """(how right each row is, by line, rows left out because a pair of theirs was dropped)."""
    whole = Counter(pair.line for pair in pairs)
    sides: dict[int, list[int]] = defaultdict(list)
    for place, item in enumerate(scored.pairs):
        sides[item.pair.line].append(place)
    right = {
        line: score_row(scored.scores[places, 0].tolist(), rejected=scored.scores[places, 1].tolist())
        for line, places in sides.items()
        if len(places) == whole[line]
    }
    return right, len(whole) - len(right)


def _describe_rows(scored: _Scored, *, pairs: Sequence[Pair]) -> dict[str, Any]:
    """How often every chosen response of a row is above every rejected one."""
    right, incomplete = _rows_right(scored, pairs=pairs)
    total = sum(right.values())
    return {
        "n": len(right),
        "accuracy": total / len(right) if right else None,
        "interval": list(wilson_interval(total, n=len(right))) if right else None,
        "incomplete": incomplete,
    }


def _settle_sections(rows: Mapping[int, dict[str, Any]], *, settings: Settings, file: Path) -> Any:
    """The sections of the file's subsets; None for a file without any. Raises DataError where some rows have none."""
    given = read_sections(settings.sections) if settings.sections else None
    if not any("subset" in row for row in rows.values()):
        if given is not None:
            raise DataError(f"{file}: no row has a subset, so there is nothing to put into sections")
        return None
    for line, row in rows.items():
        if not isinstance(row.get("subset"), str):
            found = repr(row.get("subset"))
            raise DataError(f"{file}, line {line}, subset: expected a string as in other rows, found {found:.60}")
        if "responses" in row:
            raise DataError(f"{file}, line {line}, subset: a ranking has none; give chosen and rejected responses")
    return settle_sections([row["subset"] for row in rows.values()], given=given, file=file)


def _describe_sections(
    scored: _Scored, *, pairs: Sequence[Pair], rows: Mapping[int, dict[str, Any]], sections: Any
) -> dict[str, Any]:
    right, incomplete = _rows_right(scored, pairs=pairs)
    prompts = {pair.line: pair.prompt_id for pair in pairs}
    if not right:
        return {"mean": None, "interval": None, "sections": [], "incomplete": incomplete}
    return {
        **describe_sections(
            list(right.values()),
            subsets=[rows[line]["subset"] for line in right],
            prompt_ids=[prompts[line] for line in right],
            sections=sections,
        ),
        "incomplete": incomplete,
    }


def _compare(scored: _Scored, *, other: _Scored, file: Path) -> dict[str, Any]:
    """The two models on the pairs that both can read."""
    places = {id(item.pair): place for place, item in enumerate(other.pairs)}
    both = [(i, places[id(item.pair)]) for i, item in enumerate(scored.pairs) if id(item.pair) in places]
    if not both:
        raise DataError(f"{file}: the two models have no usable pair in common")
    ours, theirs = (list(side) for side in zip(*both, strict=True))
    figures = compare_margins(
        scored.margins[ours],
        second=other.margins[theirs],
        prompt_ids=[scored.pairs[i].pair.prompt_id for i in ours],
    )
    return {**figures, "other_accuracy_of_all": pairwise_accuracy(other.margins), "other_n": len(other.pairs)}


def _list_margins(scored: _Scored) -> Iterator[dict[str, Any]]:
    for item, (chosen, rejected) in zip(scored.pairs, scored.scores.tolist(), strict=True):
        yield {
            "line": item.pair.line,
            "prompt_id": item.pair.prompt_id,
            "chosen_score": chosen,
            "rejected_score": rejected,
            "margin": chosen - rejected,
        }
