"""Names turned into integer codes, fast, and checked on the way.

Text goes through Arrow's dictionary encoding, which also reads the columns of a data frame without a copy; everything
else that can be hashed goes through a dict. What the codes mean is for the fits to say.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Labels: TypeAlias = Sequence[Hashable] | npt.NDArray[Any]
"""Anything of one dimension that names things: an array, a list, a column of a data frame or an Arrow array."""
Integers: TypeAlias = npt.NDArray[np.integer[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]
Names: TypeAlias = tuple[Hashable, ...]

SMALL = 2048
"""Identifiers below this index arrays as they are; larger ones are packed first."""


def encode_items(*columns: Labels, items: Sequence[Hashable] | None = None) -> tuple[list[Integers], Names]:
    """Codes of each column, shape (N,) as the column, and the names that they index.

    Integers are positions in `items`; where that is not given they are identifiers, and small ones that never occur
    may stand among the names. Other labels are looked up in `items`, or named in sorted order. Raises ValueError on
    other shapes, missing values and unknown items.
    """
    if items is not None and len(set(items)) != len(items):
        raise ValueError("Every name must stand only once in items.")
    encoded = [encode(column) for column in columns]
    if all(names is None for _codes, names in encoded):
        return _place_integers([codes for codes, _names in encoded], items=items)
    named = [(codes, names) for codes, names in encoded if names is not None]
    if len(named) < len(encoded):
        raise ValueError("Items must be named by integers throughout, or nowhere.")
    known = tuple(items) if items is not None else _sorted(name for _codes, names in named for name in names)
    place = {name: code for code, name in enumerate(known)}
    if unknown := [name for _codes, names in named for name in names if name not in place]:
        raise ValueError(f"Unknown items: {show_names(unknown)}.")
    return [np.array([place[name] for name in names], dtype=np.int32)[codes] for codes, names in named], known


def encode(column: Labels) -> tuple[Integers, Names | None]:
    """Codes of a column and the names in the order of the codes; integers stay as they are, with None for names.

    Raises ValueError on missing values, numbers that are no integers, and more than one dimension.
    """
    kind = getattr(getattr(column, "dtype", None), "kind", "O")
    if kind in "fc" or getattr(column, "ndim", 1) != 1:
        raise ValueError("Labels must be integers or names in one dimension.")
    if kind in "iu":
        return np.asarray(column), None
    array = _as_arrow(column)
    if array is None:
        return _encode_with_dict(column)
    if array.null_count:
        raise ValueError(f"{array.null_count} labels are missing.")
    if str(array.type).startswith(("int", "uint")):
        return array.to_numpy(zero_copy_only=False), None
    array = array if hasattr(array, "indices") else array.dictionary_encode()
    return array.indices.to_numpy(zero_copy_only=False), tuple(array.dictionary.to_pylist())


def encode_groups(column: Labels, *, rows: int) -> tuple[npt.NDArray[np.intp], int]:
    """Dense codes 0 … G - 1 of a grouping of `rows` rows, and G. Raises ValueError as `encode` does, or on length."""
    codes, names = encode(column)
    if len(codes) != rows:
        raise ValueError(f"A grouping must have a label for each of {rows} rows, not {len(codes)}.")
    if names is None and (codes.min() < 0 or codes.max() >= 2 * rows):
        codes = np.unique(codes, return_inverse=True)[1]
    codes = codes.astype(np.intp, copy=False)
    present = np.bincount(codes) > 0
    return (codes if present.all() else (np.cumsum(present) - 1)[codes]), int(present.sum())


def weights_of(labels: Labels, *, table: Mapping[Any, float]) -> Floats:
    """The number that `table` gives each label, shape (N,): weights by annotator, outcomes by their names.

    Raises ValueError where the table lacks one.
    """
    codes, names = encode(labels)
    if names is None:
        distinct, codes = np.unique(codes, return_inverse=True)
        names = tuple(distinct.tolist())
    if missing := [name for name in names if name not in table]:
        raise ValueError(f"No value is given for {show_names(missing)}.")
    return np.array([table[name] for name in names], dtype=float)[codes]


def show_names(names: Sequence[Hashable], *, most: int = 5) -> str:
    """A few names for a message."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _place_integers(columns: list[Integers], *, items: Sequence[Hashable] | None) -> tuple[list[Integers], Names]:
    filled = [column for column in columns if len(column)]
    lowest = min((int(column.min()) for column in filled), default=0)
    highest = max((int(column.max()) for column in filled), default=-1)
    if items is not None:
        if lowest < 0 or highest >= len(items):
            raise ValueError(f"Unknown item {lowest if lowest < 0 else highest}: there are {len(items)} items.")
        return columns, tuple(items)
    if lowest >= 0 and highest < SMALL:
        return columns, tuple(range(highest + 1))
    distinct = np.unique(np.concatenate([np.unique(column) for column in columns]))
    return [np.searchsorted(distinct, column) for column in columns], tuple(distinct.tolist())


def _as_arrow(column: Labels) -> Any:
    """The column as an Arrow array of text or integers, or None where it is of another kind or Arrow is not there."""
    try:
        import pyarrow as pa
    except ImportError:
        return None
    try:
        array = column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError):
        return None
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return array if textual or pa.types.is_integer(kind) else None


def _encode_with_dict(column: Labels) -> tuple[Integers, Names]:
    place: dict[Hashable, int] = {}
    codes = np.fromiter((place.setdefault(label, len(place)) for label in column), dtype=np.int32, count=len(column))
    if missing := sum(label is None or label != label for label in place):
        raise ValueError(f"{missing} labels are missing.")
    return codes, tuple(place)


def _sorted(names: Iterable[Any]) -> Names:
    """Each name once: sorted, or in the order given where they cannot be compared."""
    distinct = dict.fromkeys(names)
    try:
        return tuple(sorted(distinct))
    except TypeError:
        return tuple(distinct)
