"""Accuracy of parts of the data: by the model's margin, strength, agreement, length difference, any column.

A slice is a label a pair; a label that is None leaves the pair out. Many slices are looked at, so one whose interval
lies apart from the others is a hint, not a finding: about one in twenty does so by chance.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rewardmodel.evaluation.calibration import assign_bins
from rewardmodel.metrics import as_margins, correctness, wilson_interval

Labels = Sequence[str | None]
MARGIN_BANDS = 5
MOST_LABELS = 20
OTHERS = "all others"
NOT_GIVEN = "not given"
STRENGTHS = {0: "0 (forced)", 1: "1 (slightly)", 2: "2 (better)", 3: "3 (much better)"}
# Characters of the chosen response over those of the rejected one.
LENGTH_BANDS = (
    (0.5, "chosen shorter than 1/2"),
    (0.9, "chosen 1/2 to 0.9"),
    (1 / 0.9, "about equal (within 0.9)"),
    (2.0, "chosen 1.1 to 2 times"),
    (float("inf"), "chosen over 2 times"),
)
# Share of judgements of the same two responses that say what most say.
AGREEMENT_BANDS = ((0.5, "split evenly"), (0.75, "over 1/2 to 3/4"), (0.9999, "over 3/4"), (1.0, "all agree"))


def accuracy_by(
    labels: Labels, *, margins: Sequence[float] | np.ndarray, order: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """{label, n, accuracy, interval} of each label, in `order`, else as sorted. labels, margins: (n,)."""
    right = correctness(margins)
    found: dict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(labels):
        if label is not None:
            found[label].append(place)
    names = sorted(found) if order is None else [name for name in order if name in found]
    rows = []
    for name in names:
        own = right[found[name]]
        interval = wilson_interval(float(own.sum()), n=len(own))
        rows.append({"label": name, "n": len(own), "accuracy": float(own.mean()), "interval": list(interval)})
    return rows


def label_margins(margins: Sequence[float] | np.ndarray, *, bands: int = MARGIN_BANDS) -> tuple[list[str], list[str]]:
    """(labels, their order): bands of |margin| with about equally many pairs, named by their smallest and largest."""
    sizes = np.abs(as_margins(margins))
    codes = assign_bins(sizes, bins=bands)
    names = {code: f"{sizes[codes == code].min():.2f} – {sizes[codes == code].max():.2f}" for code in np.unique(codes)}
    # Bands of like size can round to one name; they keep apart by their number.
    doubled = {name for name, count in Counter(names.values()).items() if count > 1}
    names = {code: f"{name} ({code + 1})" if name in doubled else name for code, name in names.items()}
    return [names[code] for code in codes], [names[code] for code in sorted(names)]


def label_lengths(lengths: Sequence[tuple[int, int]]) -> tuple[list[str], list[str]]:
    """(labels, their order) by the ratio of lengths. lengths: (chosen, rejected) characters."""
    labels = []
    for chosen, rejected in lengths:
        ratio = (chosen + 1) / (rejected + 1)  # an empty response has a ratio too
        labels.append(next(name for bound, name in LENGTH_BANDS if ratio <= bound))
    return labels, [name for _, name in LENGTH_BANDS]


def label_strengths(strengths: Sequence[Any]) -> tuple[list[str | None], list[str]]:
    """(labels, their order) of strengths 0 to 3; the sign of older snapshots is no part of it. None where not given."""
    known = [abs(value) if _is_whole(value) else None for value in strengths]
    labels = [None if value is None else STRENGTHS.get(value, str(value)) for value in known]
    return labels, [STRENGTHS.get(value, str(value)) for value in sorted({v for v in known if v is not None})]


def label_agreement(shares: Sequence[float | None]) -> tuple[list[str | None], list[str]]:
    """(labels, their order) of the share of judgements that agree with the majority, 0.5 to 1; None where unknown."""
    labels = [None if s is None else next(name for bound, name in AGREEMENT_BANDS if s <= bound) for s in shares]
    return labels, [name for _, name in AGREEMENT_BANDS]


def count_agreement(sides: Sequence[tuple[str, str, str]]) -> tuple[list[float | None], float | None]:
    """(share a pair, ceiling) from judgements of the same two responses, told by (prompt id, chosen, rejected).

    The share is that of the larger party; None for two responses judged once. The ceiling is the highest accuracy
    that any model can have on these rows: it cannot please both parties. None where nothing was judged twice.
    """
    votes: dict[tuple[str, frozenset[str]], Counter[str]] = defaultdict(Counter)
    keys = [(prompt, frozenset((chosen, rejected))) for prompt, chosen, rejected in sides]
    for key, (_, chosen, _) in zip(keys, sides, strict=True):
        votes[key][chosen] += 1
    largest = {key: max(count.values()) for key, count in votes.items()}
    totals = {key: count.total() for key, count in votes.items()}
    if all(total == 1 for total in totals.values()):
        return [None] * len(sides), None
    shares = [largest[key] / totals[key] if totals[key] > 1 else None for key in keys]
    return shares, sum(largest.values()) / len(sides)


def label_column(values: Sequence[Any]) -> tuple[list[str], list[str]]:
    """(labels, their order) of any column: numbers of many values in five bands, rare values together.

    The order is that of size for numbers and of frequency for words; a value that is missing or null is "not given".
    """
    numbers = [value for value in values if _is_number(value)]
    given = [value for value in values if value is not None]
    if len(numbers) == len(given) and len(set(numbers)) > MARGIN_BANDS * 2:
        codes = assign_bins(np.asarray(numbers, dtype=float), bins=MARGIN_BANDS)
        array = np.asarray(numbers, dtype=float)
        names = [f"{array[codes == c].min():g} – {array[codes == c].max():g}" for c in range(codes.max() + 1)]
        bands = iter(codes)
        labels = [NOT_GIVEN if value is None else names[next(bands)] for value in values]
        return labels, [*dict.fromkeys(names), NOT_GIVEN]
    labels = [NOT_GIVEN if value is None else _name(value) for value in values]
    counts = Counter(labels)
    kept = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][:MOST_LABELS]
    if len(numbers) == len(given):
        kept = list(dict.fromkeys([*(_name(value) for value in sorted(set(numbers))), NOT_GIVEN]))
    return [label if label in kept else OTHERS for label in labels], [*kept, OTHERS]


def _name(value: Any) -> str:
    if isinstance(value, Mapping | list):
        raise ValueError(f"a {'list' if isinstance(value, list) else 'mapping'} is no label")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
