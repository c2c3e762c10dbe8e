"""A run's directory: what was asked, how it stands, and what it made. Standard library only.

    spec.json        the spec, as `contract.spec_to_dict` gives it
    status.json      {state, phase, step, total_steps, started_at, updated_at, eta_seconds, message, error, versions,
                     warnings, isolated: false once model-written code was let run where nothing isolates it}
    metrics.jsonl    one row a logging step: {"step": int, "time": epoch seconds, "loss": float, ...}
    samples.jsonl    answers to the same few prompts as a policy is trained, for methods that write them
    report.json      held-out figures of the finished run
    provenance.json  data, hashes, versions and machine behind the result
    cancel           present once someone asked the run to stop
    checkpoints/     what a resumed run needs
    outputs/         what the run made

One process writes (it holds `lock`), any number read. JSON files are replaced whole, so a reader sees the old or the
new one, never half; metrics.jsonl is appended, and its readers leave a torn last line alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from rewardmodel.contract import STATES, InputError

STATUS_FIELDS = (
    "state",
    "phase",
    "step",
    "total_steps",
    "started_at",
    "updated_at",
    "eta_seconds",
    "message",
    "error",
    "versions",
    "warnings",
    "isolated",
)


class RunDirError(InputError):
    """A run directory that cannot be read or used; the message names the file."""


class RunDirBusyError(RuntimeError):
    """Another process works on this directory."""


class RunDir:
    """One run's directory. Times are seconds since the epoch."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.spec_file = self.path / "spec.json"
        self.status_file = self.path / "status.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.samples_file = self.path / "samples.jsonl"
        self.report_file = self.path / "report.json"
        self.provenance_file = self.path / "provenance.json"
        self.cancel_file = self.path / "cancel"
        self.checkpoints = self.path / "checkpoints"
        self.outputs = self.path / "outputs"

    def create(self, spec: Mapping[str, Any]) -> RunDir:
        """Make the directory, write the spec and state "queued". Raises RunDirError where a spec is already there."""
        if self.spec_file.exists():
            raise RunDirError(f"{self.spec_file} exists already; run it, or choose another directory")
        for directory in (self.path, self.checkpoints, self.outputs):
            directory.mkdir(parents=True, exist_ok=True)
        write_json(self.spec_file, spec)
        self.write_status(state="queued")
        return self

    def read_spec(self) -> dict[str, Any]:
        """The mapping in spec.json. Raises RunDirError where there is none."""
        return read_json(self.spec_file)

    def read_status(self) -> dict[str, Any]:
        """Every field of the status, None where not yet known; state is "queued" before the first write."""
        known = read_json(self.status_file) if self.status_file.exists() else {"state": "queued"}
        return {name: known.get(name) for name in STATUS_FIELDS}

    def write_status(self, **changes: Any) -> dict[str, Any]:
        """Change the named fields, stamp updated_at, and return the whole status."""
        for name in changes:
            if name not in STATUS_FIELDS:
                raise ValueError(f"status has no field {name!r}; known are {', '.join(STATUS_FIELDS)}")
        if "state" in changes and changes["state"] not in STATES:
            raise ValueError(f"state must be one of {', '.join(STATES)}, got {changes['state']!r}")
        status = {**self.read_status(), **changes, "updated_at": time.time()}
        write_json(self.status_file, status)
        return status

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Append one row {"step": int, ...}; "time" is added. On disk when this returns, unless the machine dies."""
        append_json_line(self.metrics_file, {"step": row["step"], "time": time.time(), **row})

    def read_metrics(self, *, after_line: int = 0) -> list[dict[str, Any]]:
        """The rows after the first `after_line` lines; a last line still being written is left out."""
        return read_json_lines(self.metrics_file)[after_line:]

    def drop_metrics_after(self, step: int) -> None:
        """Forget the rows of steps that a resumed run will make again, and the samples of those steps."""
        if self.metrics_file.exists():
            kept = [row for row in self.read_metrics() if row["step"] <= step]
            write_text(self.metrics_file, "".join(json.dumps(row) + "\n" for row in kept))
        if self.samples_file.exists():
            write_json_lines(self.samples_file, [row for row in self.read_samples() if row["step"] <= step])

    def append_samples(self, rows: list[dict[str, Any]]) -> None:
        """Append answers to the same few prompts, each {"step": int, ...}, after so many steps."""
        append_json_lines(self.samples_file, rows)

    def read_samples(self) -> list[dict[str, Any]]:
        """All answers, in the order of their steps; a last line still being written is left out."""
        return read_json_lines(self.samples_file)

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Replace report.json."""
        write_json(self.report_file, report)

    def read_report(self) -> dict[str, Any]:
        """The report. Raises RunDirError where the run has none yet."""
        return read_json(self.report_file)

    def write_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Replace provenance.json."""
        write_json(self.provenance_file, provenance)

    def request_cancel(self) -> None:
        """Ask the run to stop: training saves a checkpoint at the end of its step, the rest stops after its batch."""
        self.cancel_file.touch()

    def cancel_requested(self) -> bool:
        """Whether someone asked this run to stop."""
        return self.cancel_file.exists()

    def clear_cancel(self) -> None:
        """Withdraw the request, so that a cancelled run can go on."""
        self.cancel_file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the directory for this process; the system lets go when the process dies. Raises RunDirBusyError."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunDirBusyError(f"another process works on {self.path}") from None
            yield


class ObservedRun(RunDir):
    """A run's directory as the other processes of the run see it (`ranks`): they read, and the first one writes."""

    def write_status(self, **changes: Any) -> dict[str, Any]:
        """The status as it is."""
        return self.read_status()

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Nothing."""

    def drop_metrics_after(self, step: int) -> None:
        """Nothing."""

    def append_samples(self, rows: list[dict[str, Any]]) -> None:
        """Nothing."""

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Nothing."""

    def write_provenance(self, provenance: Mapping[str, Any]) -> None:
        """Nothing."""

    def cancel_requested(self) -> bool:
        """Never: the first process decides, and says so."""
        return False

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Nothing: the first process holds the directory."""
        yield


def write_text(path: Path, text: str) -> None:
    """Replace a file whole and durably: a crash leaves the old text or the new, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        # mkstemp makes files private to their owner; the app may read them as another user of the same group.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file whole. NaN and infinities are refused: they are not JSON, and no reader expects them."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replace a JSONL file whole."""
    write_text(path, "".join(_to_line(row) for row in rows))


def _to_line(row: Mapping[str, Any], *, allow_nan: bool = True) -> str:
    """The row as a line of JSON. Half a surrogate pair, which UTF-8 has no bytes for, stays the escape that it was."""
    line = json.dumps(row, ensure_ascii=False, allow_nan=allow_nan)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        line = json.dumps(row, allow_nan=allow_nan)
    return line + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises RunDirError naming the file where it is missing or not an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunDirError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunDirError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise RunDirError(f"{path} must hold a JSON object, found {type(value).__name__}")
    return value


def append_json_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append one row as a line of its own, even where a killed process left half a line before it."""
    append_json_lines(path, [row])


def append_json_lines(path: Path, rows: list[Mapping[str, Any]] | list[dict[str, Any]]) -> None:
    """Append rows in one write; a torn last line, left by a killed process, is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as handle:
        _cut_torn_line(handle)
        text = "".join(_to_line(row, allow_nan=False) for row in rows)
        handle.write(text.encode("utf-8"))
        handle.flush()


def _cut_torn_line(handle: IO[bytes]) -> None:
    end = handle.seek(0, os.SEEK_END)
    if end == 0:
        return
    handle.seek(end - 1)
    if handle.read(1) != b"\n":
        handle.seek(0)
        handle.truncate(handle.read().rfind(b"\n") + 1)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The complete rows of a JSONL file; [] where there is none. A last line without its newline is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]
