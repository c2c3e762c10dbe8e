"""Names turned into integer codes, fast, and checked on the way.

Columns of a data frame and Arrow arrays go through Arrow's dictionary encoding, which is fastest; everything else that
can be hashed goes through a dict. What the codes mean is for the fits to say.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from numbers import Number
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
    codes, names = encode_columns(*columns, items=items)
    if names is None:
        return pack_identifiers(codes)
    if items is not None or (ordered := sort_names(names)) == names:
        return codes, names
    place = {name: code for code, name in enumerate(ordered)}
    new = np.array([place[name] for name in names], dtype=np.int32)
    return [new[column] for column in codes], ordered


def encode_columns(*columns: Labels, items: Sequence[Hashable] | None = None) -> tuple[list[Integers], Names | None]:
    """The same at least cost: names as they appear, and identifiers as they are, unread, with None for names."""
    if items is not None and len(set(items)) != len(items):
        raise ValueError("Every name must stand only once in items.")
    encoded = _encode_together(*columns) if items is None else [encode(column) for column in columns]
    named = [(codes, names) for codes, names in encoded if names is not None]
    if not named:
        integers = [codes for codes, _names in encoded]
        if items is None:
            return integers, None
        lowest, highest = range_of(*integers)
        if lowest < 0 or highest >= len(items):
            raise ValueError(f"Unknown item {lowest if lowest < 0 else highest}: there are {len(items)} items.")
        return integers, tuple(items)
    if len(named) < len(encoded):
        raise ValueError("Items must be named by integers throughout, or nowhere.")
    known = (
        tuple(items) if items is not None else tuple(dict.fromkeys(name for _codes, names in named for name in names))
    )
    place = {name: code for code, name in enumerate(known)}
    if unknown := [name for _codes, names in named for name in names if name not in place]:
        raise ValueError(f"Unknown items: {show_names(unknown)}.")
    return [
        codes if names == known else np.array([place[name] for name in names], dtype=np.int32)[codes]
        for codes, names in named
    ], known


def _encode_together(*columns: Labels) -> list[tuple[Integers, Names | None]]:
    """As `encode` each, but columns of Arrow text share a dictionary, so that their codes need no second look."""
    arrays = [_as_arrow(column) for column in columns if not isinstance(column, list | tuple | range | np.ndarray)]
    if len(arrays) < len(columns) or any(array is None or hasattr(array, "indices") for array in arrays):
        return [encode(column) for column in columns]
    if len({array.type for array in arrays}) > 1 or any(array.null_count for array in arrays):
        return [encode(column) for column in columns]
    if str(arrays[0].type).startswith(("int", "uint")):
        return [encode(column) for column in columns]
    import pyarrow as pa

    chunks = pa.chunked_array(arrays).dictionary_encode().chunks
    names = tuple(chunks[-1].dictionary.to_pylist())
    return [(chunk.indices.to_numpy(zero_copy_only=False), names) for chunk in chunks]


def pack_identifiers(columns: list[Integers]) -> tuple[list[Integers], Names]:
    """Codes for identifiers, and the identifiers: as they are if they are small, in ascending order otherwise."""
    lowest, highest = range_of(*columns)
    if lowest >= 0 and highest < SMALL:
        return columns, tuple(range(highest + 1))
    distinct = np.unique(np.concatenate([np.unique(column) for column in columns]))
    return [np.searchsorted(distinct, column) for column in columns], tuple(distinct.tolist())


def range_of(*columns: Integers) -> tuple[int, int]:
    """The lowest and the highest integer of all columns, 0 and -1 if they are empty."""
    filled = [column for column in columns if len(column)]
    lowest = min((int(column.min()) for column in filled), default=0)
    return lowest, max((int(column.max()) for column in filled), default=-1)


def encode(column: Labels) -> tuple[Integers, Names | None]:
    """Codes of a column and the names in the order of the codes; integers stay as they are, with None for names.

    Raises ValueError on missing values, numbers that are no integers, and more than one dimension.
    """
    if isinstance(column, list | tuple | range) and len(column) and type(column[0]) is int:
        integers = np.asarray(column)
        column = integers if integers.dtype.kind in "iu" else column
    kind = getattr(getattr(column, "dtype", None), "kind", "O")
    if kind in "fc" or getattr(column, "ndim", 1) != 1:
        raise ValueError("Labels must be integers or names in one dimension.")
    if kind in "iu":
        return np.asarray(column), None
    if isinstance(column, list | tuple | range):
        return _encode_with_dict(column)
    if isinstance(column, np.ndarray) or (array := _as_arrow(column)) is None:
        return _encode_with_dict(np.asarray(column).tolist())
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
    groups = codes.astype(np.intp, copy=False)
    present = np.bincount(groups) > 0
    dense = groups if present.all() else np.asarray((np.cumsum(present) - 1)[groups], dtype=np.intp)
    return dense, int(present.sum())


def weights_of(labels: Labels, *, table: Mapping[Any, float], kind: npt.DTypeLike = float) -> npt.NDArray[Any]:
    """The number that `table` gives each label, shape (N,): weights by annotator, outcomes by their names.

    Raises ValueError where the table lacks one.
    """
    if (found := _find_text(labels, words=list(table))) is not None:
        return np.array(list(table.values()), dtype=kind)[found]
    codes, names = encode(labels)
    if names is None:
        distinct, codes = np.unique(codes, return_inverse=True)
        names = tuple(distinct.tolist())
    if missing := [name for name in names if name not in table]:
        raise ValueError(f"No value is given for {show_names(missing)}.")
    return np.array([table[name] for name in names], dtype=kind)[codes]


def read_weights(weights: npt.ArrayLike, *, rows: int) -> Floats:
    """Weights of the rows, (N,). Raises ValueError unless they are finite and 0 or more."""
    given = np.asarray(weights, dtype=float)
    if given.shape != (rows,) or not np.isfinite(given).all() or given.min() < 0:
        raise ValueError(f"Weights must be {rows} finite numbers of 0 or more.")
    return given


def read_groupings(clusters: Labels | tuple[Labels, Labels] | None, *, rows: int) -> list[npt.NDArray[np.intp]]:
    """None, one or two groupings of the rows as dense codes, (N,) each."""
    if clusters is None:
        return []
    several: tuple[Any, ...] = (clusters,)
    if isinstance(clusters, tuple) and not any(isinstance(part, str | Number) for part in clusters):
        several = clusters
    if len(several) > 2:
        raise ValueError("One grouping or two can be clustered by, no more.")
    return [encode_groups(grouping, rows=rows)[0] for grouping in several]


def show_names(names: Sequence[Hashable], *, most: int = 5) -> str:
    """A few names for a message."""
    shown = ", ".join(repr(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


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


def _find_text(column: Labels, *, words: list[Any]) -> Integers | None:
    """Which of the words stands in each row of a column of Arrow text; None for other columns and other words."""
    if isinstance(column, list | tuple | range | np.ndarray) or not all(isinstance(word, str) for word in words):
        return None
    array = _as_arrow(column)
    if array is None or hasattr(array, "indices") or "string" not in str(array.type):
        return None
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(array, value_set=pa.array(words, type=array.type))
    return None if found.null_count else found.to_numpy(zero_copy_only=False)


def _encode_with_dict(column: Sequence[Hashable]) -> tuple[Integers, Names]:
    place: dict[Hashable, int] = {}
    try:
        codes = np.fromiter((place.setdefault(label, len(place)) for label in column), dtype=np.int32)
    except TypeError as error:
        raise ValueError(f"Labels must be integers or names in one dimension: {error}.") from None
    if missing := sum(label is None or label != label for label in place):
        raise ValueError(f"{missing} labels are missing.")
    if any(isinstance(label, float) for label in place):
        raise ValueError("Labels must be integers or names in one dimension, not fractions.")
    return codes, tuple(place)


def sort_names(names: Iterable[Any]) -> Names:
    """Each name once: sorted, or in the order given where they cannot be compared."""
    distinct = dict.fromkeys(names)
    try:
        return tuple(sorted(distinct))
    except TypeError:
        return tuple(distinct)
