"""Reads JSONL, JSON, CSV and Parquet files row by row, in bounded memory, and says where a file is broken.

No row is longer than 16 MiB and nothing nests deeper than 50; NUL characters, lone surrogates, NaN and
Infinity, which a database would refuse or silently change, are refused here with their line. What the fields
mean is the business of `import_formats`.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

ROW_LIMIT = 16 * 1024 * 1024
DEPTH_LIMIT = 50
UNPACKED_LIMIT = 4 * 1024**3
RATIO_LIMIT = 1000
RATIO_FREE = 64 * 1024 * 1024
CHUNK = 64 * 1024
PARQUET_ROWS = 16  # few, since a small dictionary can unfold to long rows
PARQUET_BUFFER = 1024 * 1024
TOO_DEEP = f"it is nested deeper than {DEPTH_LIMIT}"
NOT_FINITE = "NaN and Infinity cannot be stored; leave the value out or use null"
BLANK = re.compile(r"[ \t\r\n]*")
FIELD_LIMIT = 1000  # columns or keys of one row

GZIP_MAGIC, PARQUET_MAGIC = b"\x1f\x8b", b"PAR1"
UTF8_BOM = b"\xef\xbb\xbf"
WIDE_BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}

# The csv module keeps its own limit, 128 KiB a field unless told; rows are bounded by ROW_LIMIT here.
csv.field_size_limit(ROW_LIMIT)


class ImportRefused(ValueError):
    """A file that cannot be imported; says in which file, line and field, and why."""

    def __init__(self, *, file: str, line: int | None = None, field: str | None = None, reason: str) -> None:
        place = [file]
        if line is not None:
            place.append(f"line {line}")
        if field is not None:
            place.append(f"field '{field}'")
        super().__init__(f"{', '.join(place)}: {reason}")
        self.file, self.line, self.field, self.reason = file, line, field, reason


class RowRefused(ValueError):
    """A row that cannot be imported; the caller knows its file and line."""

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field, reason


@dataclass(frozen=True)
class ImportFile:
    """A file to import, under the name by which the user knows it."""

    name: str
    path: Path


@dataclass(frozen=True)
class RawRow:
    """A row as it stands in the file; `line` counts rows in Parquet; `size` is about its bytes in memory."""

    line: int
    fields: dict[str, Any]
    size: int
    is_csv: bool = False


def read_rows(file: ImportFile) -> Iterator[RawRow]:
    """Yield the file's rows; raises ImportRefused at the first that is broken, and where there is none."""
    found = False
    with _os_errors_refused(file), file.path.open("rb") as raw:
        for row in _read_open_file(file, raw):
            found = True
            yield row
    if not found:
        raise ImportRefused(file=file.name, reason="the file is empty: it has no rows")


def _read_open_file(file: ImportFile, raw: IO[bytes]) -> Iterator[RawRow]:
    magic = raw.read(4)
    raw.seek(0)
    extension = Path(file.name.lower().removesuffix(".gz")).suffix
    if magic == PARQUET_MAGIC:
        return _read_parquet(file, raw)
    if extension in (".parquet", ".pq") and magic:
        raise ImportRefused(file=file.name, reason="this is not a Parquet file, though its name says so")
    if magic.startswith(GZIP_MAGIC):
        text = _TextSource(file, gzip.GzipFile(fileobj=raw), packed=raw)
    elif file.name.lower().endswith(".gz"):
        raise ImportRefused(file=file.name, reason="this is not a gzip file, though its name says so")
    else:
        text = _TextSource(file, raw, packed=None)
    text.skip_bom()
    if extension == ".csv":
        return _read_csv(text)
    start = text.first_character()
    if start == b"[":
        return _read_json_array(text)
    if start in (b"{", b"") or extension in (".jsonl", ".ndjson", ".json"):
        return _read_json_lines(text)
    raise ImportRefused(
        file=file.name,
        reason="its kind is not known; use .jsonl, .json, .csv or .parquet (the text kinds also with .gz)",
    )


class _TextSource:
    """The bytes of a text file, unpacked on the way, with bounds on a line and on what may be unpacked."""

    def __init__(self, file: ImportFile, stream: IO[bytes] | gzip.GzipFile, *, packed: IO[bytes] | None) -> None:
        self.file = file
        self.packed = packed
        self._stream = stream
        self._pending = b""
        self._taken = 0

    def refuse(self, line: int | None, reason: str, *, field: str | None = None) -> ImportRefused:
        return ImportRefused(file=self.file.name, line=line, field=field, reason=reason)

    def skip_bom(self) -> None:
        head = self._pull(4)
        for bom, name in WIDE_BOMS.items():
            if head.startswith(bom):
                raise self.refuse(None, f"the file is {name}; save it as UTF-8")
        self._pending = head.removeprefix(UTF8_BOM)

    def first_character(self) -> bytes:
        """The first byte that is no white space, which stays to be read; empty where there is none nearby."""
        while not self._pending.strip() and len(self._pending) < CHUNK:
            more = self._pull(CHUNK)
            if not more:
                break
            self._pending += more
        return self._pending.lstrip()[:1]

    def read(self, size: int) -> bytes:
        if self._pending:
            part, self._pending = self._pending[:size], self._pending[size:]
            return part
        return self._pull(size)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of each line, its end included."""
        number = 0
        while line := self._read_line(number + 1):
            number += 1
            yield number, line

    def _read_line(self, number: int) -> bytes:
        line = b""
        if self._pending:
            end = self._pending.find(b"\n") + 1
            line, self._pending = (self._pending[:end], self._pending[end:]) if end else (self._pending, b"")
            if end:
                return line
        with self._unpacking():
            line += self._stream.readline(ROW_LIMIT + 1 - len(line))
        self._check_unpacked()
        if len(line) > ROW_LIMIT:
            raise self.refuse(number, "the line is longer than 16 MiB")
        return line

    def _pull(self, size: int) -> bytes:
        with self._unpacking():
            part = self._stream.read(size)
        self._check_unpacked()
        return part

    @contextmanager
    def _unpacking(self) -> Iterator[None]:
        try:
            yield
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise self.refuse(None, f"the gzip data is damaged: {error}") from error

    def _check_unpacked(self) -> None:
        if self.packed is None:
            return
        unpacked = self._stream.tell()
        if unpacked > UNPACKED_LIMIT:
            raise self.refuse(None, f"it unpacks to more than {UNPACKED_LIMIT // 1024**3} GiB")
        if unpacked > RATIO_FREE and unpacked > RATIO_LIMIT * self.packed.tell():
            raise self.refuse(None, f"it unpacks to more than {RATIO_LIMIT} times its size")


def _decode(source: _TextSource, line: int, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 (byte {error.start + 1} of the line is 0x{data[error.start]:02x})"
        raise source.refuse(line, reason) from None


def _read_json_lines(source: _TextSource) -> Iterator[RawRow]:
    for number, data in source.lines():
        text = _decode(source, number, data)
        if text.isspace():
            continue
        try:
            value = DECODER.decode(text)
        except RowRefused as error:
            raise source.refuse(number, error.reason, field=error.field) from None
        except RecursionError:
            raise source.refuse(number, TOO_DEEP) from None
        except json.JSONDecodeError as error:
            raise source.refuse(number, f"not valid JSON: {error.msg} (column {error.colno})") from None
        except ValueError as error:  # an integer of thousands of digits
            raise source.refuse(number, f"not valid JSON: {error}") from None
        yield make_row(source.file, number, value)


def _read_json_array(source: _TextSource) -> Iterator[RawRow]:
    """Yield the elements of one big array, with no more than one element and a chunk in memory."""
    array = _ArrayBuffer(source)
    array.expect("[")
    while array.peek() != "]":
        line, value = array.line, array.take_value()
        yield make_row(source.file, line, value)
        if array.peek() != "]":
            array.expect(",")
            if array.peek() == "]":
                raise source.refuse(array.line, "not valid JSON: a comma before the end of the array")
    array.expect("]")
    if array.peek():
        raise source.refuse(array.line, "not valid JSON: there is more after the end of the array")


class _ArrayBuffer:
    """A window of decoded text over the source that grows until the next element fits."""

    def __init__(self, source: _TextSource) -> None:
        self.source = source
        self.line = 1
        self._text = ""
        self._at = 0
        self._tail = b""
        self._ended = False

    def expect(self, character: str) -> None:
        if (found := self.peek()) != character:
            got = f"found {found!r}" if found else "the file ends"
            raise self.source.refuse(self.line, f"not valid JSON: expected {character!r}, {got}")
        self._at += 1

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            blank = BLANK.match(self._text, self._at)
            self._move_to(blank.end() if blank else self._at)
            if self._at < len(self._text) or not self._grow(CHUNK):
                return self._text[self._at : self._at + 1]

    def take_value(self) -> Any:
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
                if end == len(self._text) and self._grow(CHUNK):
                    continue  # a number may go on
            except RowRefused as error:
                raise self.source.refuse(self.line, error.reason, field=error.field) from None
            except RecursionError:
                raise self.source.refuse(self.line, TOO_DEEP) from None
            except json.JSONDecodeError as error:
                self._grow_or_refuse(error)
                continue
            except ValueError as error:
                raise self.source.refuse(self.line, f"not valid JSON: {error}") from None
            self._move_to(end)
            return value

    def _grow_or_refuse(self, error: json.JSONDecodeError) -> None:
        """Read on where the window may have cut the element; refuse it where it is broken or too long."""
        held = len(self._text) - self._at
        may_be_cut = error.msg.startswith("Unterminated") or error.pos > len(self._text) - 16
        if may_be_cut and held > ROW_LIMIT:
            raise self.source.refuse(self.line, "the element is longer than 16 MiB")
        if not (may_be_cut and self._grow(max(CHUNK, held))):
            line = self.line + self._text.count("\n", self._at, error.pos)
            raise self.source.refuse(line, f"not valid JSON: {error.msg}")

    def _move_to(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self._at = end

    def _grow(self, size: int) -> bool:
        """Read on; False at the end of the file. A character cut at the edge waits for its other bytes."""
        part = b"" if self._ended else self.source.read(size)
        data = self._tail + part
        if not data:
            self._ended = True
            return False
        try:
            text, self._tail = data.decode("utf-8"), b""
        except UnicodeDecodeError as error:
            if not part or error.reason != "unexpected end of data":
                line = self.line + self._text.count("\n", self._at) + data.count(b"\n", 0, error.start)
                raise self.source.refuse(line, f"not UTF-8 (byte 0x{data[error.start]:02x})") from None
            text, self._tail = data[: error.start].decode("utf-8"), data[error.start :]
        self._text, self._at = self._text[self._at :] + text, 0
        return True


def _read_csv(source: _TextSource) -> Iterator[RawRow]:
    """Yield the records by the names in the header; an empty cell is an absent field."""
    lines = _CsvLines(source)
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    while True:
        start = lines.begin_record()
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise source.refuse(start, f"not valid CSV: {error}") from None
        if record is None:
            return
        if not record:
            continue
        if header is None:
            header = _check_header(source, start, record)
            continue
        if len(record) != len(header):
            reason = f"the row has {len(record)} cells, the header has {len(header)} columns"
            raise source.refuse(start, reason)
        cells: dict[str, str | None] = {name: cell or None for name, cell in zip(header, record, strict=True)}
        yield replace(make_row(source.file, start, cells), is_csv=True)


def _check_header(source: _TextSource, line: int, record: list[str]) -> list[str]:
    header = [name.strip() for name in record]
    twice = next((name for name in header if header.count(name) > 1), None)
    if len(header) > FIELD_LIMIT:
        raise source.refuse(line, f"the header has more than {FIELD_LIMIT} columns")
    if twice is not None:
        raise source.refuse(line, f"the header names the column {twice!r} twice")
    if "" in header:
        raise source.refuse(line, "a column of the header has no name")
    return header


class _CsvLines:
    """The decoded lines that the csv module asks for, with a bound on what one record may take."""

    def __init__(self, source: _TextSource) -> None:
        self.source = source
        self._lines = source.lines()
        self._number = 0
        self._start = 1
        self._size = 0

    def begin_record(self) -> int:
        self._start, self._size = self._number + 1, 0
        return self._start

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        self._number, data = next(self._lines)
        self._size += len(data)
        if self._size > ROW_LIMIT:
            raise self.source.refuse(self._start, "the row is longer than 16 MiB; is a quote left open?")
        return _decode(self.source, self._number, data)


def _read_parquet(file: ImportFile, raw: IO[bytes]) -> Iterator[RawRow]:
    # pyarrow takes a tenth of a second to import, which only those who bring Parquet should wait.
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(raw, buffer_size=PARQUET_BUFFER) as parquet:
            _check_parquet(file, parquet.metadata)
            for batch in parquet.iter_batches(batch_size=PARQUET_ROWS):
                for fields in batch.to_pylist():
                    number += 1
                    plain = {key: plain_value(value) for key, value in fields.items()}
                    yield make_row(file, number, plain)
    except ImportRefused:
        raise
    except RecursionError:
        raise ImportRefused(file=file.name, line=number, reason=TOO_DEEP) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImportRefused(file=file.name, reason=f"not a readable Parquet file: {reason}") from error


def _check_parquet(file: ImportFile, metadata: Any) -> None:
    unpacked = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
    if unpacked > UNPACKED_LIMIT:
        raise ImportRefused(file=file.name, reason=f"it unpacks to more than {UNPACKED_LIMIT // 1024**3} GiB")


def plain_value(value: Any) -> Any:
    """Turn what Parquet knows and JSON does not into text; a struct's absent fields go."""
    if isinstance(value, dict):
        return {key: plain_value(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [plain_value(inner) for inner in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def make_row(file: ImportFile, line: int, value: Any) -> RawRow:
    """Check what holds for every row, whatever its format."""
    if not isinstance(value, dict):
        reason = f"the row is {name_type(value)}, not an object with named fields"
        raise ImportRefused(file=file.name, line=line, reason=reason)
    if len(value) > FIELD_LIMIT:
        raise ImportRefused(file=file.name, line=line, reason=f"the row has more than {FIELD_LIMIT} fields")
    size = 0
    for field, inner in value.items():
        if fault := _explain_bad_text(field):
            shown = field.encode("ascii", "backslashreplace").decode().replace("\x00", "\\x00")
            raise ImportRefused(file=file.name, line=line, field=shown, reason=f"its name holds {fault}")
        try:
            size += measure_value(field, inner)
        except RowRefused as error:
            raise ImportRefused(file=file.name, line=line, field=error.field, reason=error.reason) from None
    if size > ROW_LIMIT:
        raise ImportRefused(file=file.name, line=line, reason="the row is longer than 16 MiB")
    return RawRow(line=line, fields=value, size=size)


def measure_value(field: str, value: Any) -> int:
    """Return about how many bytes the value takes; raises RowRefused for what must not be stored.

    Walks by levels rather than by recursion, so that hostile nesting costs no stack.
    """
    size, depth, level = len(field), 0, [value]
    while level:
        depth += 1
        if depth > DEPTH_LIMIT:
            raise RowRefused(field, TOO_DEEP)
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                size += len(item) + 8
                if reason := _explain_bad_text(item):
                    raise RowRefused(field, f"it holds {reason}")
            elif kind is dict:
                below.extend(item.keys())
                below.extend(item.values())
            elif kind is list:
                below.extend(item)
            elif kind is float:
                size += 8
                if not math.isfinite(item):
                    raise RowRefused(field, NOT_FINITE)
            elif item is None or kind in (bool, int):
                size += 8
            else:
                raise RowRefused(field, f"it holds {name_type(item)}, which JSON does not know")
        level = below
    return size


def name_type(value: Any) -> str:
    """Name a value's type as JSON does."""
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "null",
        bytes: "binary data",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def parse_json_cell(field: str, text: str) -> Any:
    """Read the JSON in a CSV cell, under the same rules as a JSON file's."""
    try:
        value = DECODER.decode(text)
    except RowRefused as error:
        raise RowRefused(field, error.reason) from None
    except RecursionError:
        raise RowRefused(field, TOO_DEEP) from None
    except ValueError as error:
        raise RowRefused(field, f"the cell is not valid JSON: {error}") from None
    measure_value(field, value)
    return value


def _explain_bad_text(text: str) -> str | None:
    if "\x00" in text:
        return "a NUL character, which cannot be stored"
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"half of a surrogate pair (U+{ord(text[error.start]):04X}), which is no character"
    return None


def _refuse_constant(name: str) -> Any:
    raise RowRefused(None, f"{name} is no JSON; leave the value out or use null")


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _value in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise RowRefused(None, f"the name {twin!r} is given twice in one object")
    return found


DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_twins)


@contextmanager
def _os_errors_refused(file: ImportFile) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ImportRefused(file=file.name, reason=f"cannot be read: {error.strerror or error}") from error
