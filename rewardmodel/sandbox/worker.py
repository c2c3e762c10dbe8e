"""One started sandbox, used once: its pipes, its clock, its end.

A worker waits for its job with everything else done, so that a pool of them hides the start. What it writes is read as
it comes and kept up to a bound; who writes more is stopped. Ended means killed: bubblewrap goes first, the kernel takes
its process namespace with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from rewardmodel.sandbox.inside import LONGEST_FRAME
from rewardmodel.sandbox.isolation import Command, Limits, explain_failure

START_SECONDS, END_SECONDS = 30.0, 5.0
LOOK_SECONDS = 0.1  # how often files are counted
INIT_MEMORY = 32 * 2**20
READY = b'"ready"'


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    ending: exited, timed out, flooded (it wrote more than it may, or made more files). memory_bound: what the limit on
    memory holds for: one process (there can be no other), or each process (without isolation there can be any number).
    """

    ending: str
    exit_code: int
    stdout: bytes
    stderr: bytes
    seconds: float
    isolated: bool
    memory_bound: str


class Stopped(Exception):
    """The other side will not answer any more; the message says who, and why. ending: as in Outcome."""

    def __init__(self, message: str, *, ending: str) -> None:
        super().__init__(message)
        self.ending = ending


@dataclass
class Worker:
    """Started by `start_worker`; `close` whatever happens."""

    process: subprocess.Popen[bytes]
    replies: int
    info: int | None
    limits: Limits
    isolated: bool
    home: tempfile.TemporaryDirectory[str] | None
    who: str = "the sandbox"
    started: float = field(default_factory=time.monotonic)
    deadline: float = 0.0

    def __post_init__(self) -> None:
        self._exit = os.pidfd_open(self.process.pid)
        self._init: int | None = None
        self._files: int | None = None  # the sandbox's /tmp
        self._next_look = 0.0
        self._stdin: int | None = self._fileno(self.process.stdin)
        self._stdout, self._stderr = self._fileno(self.process.stdout), self._fileno(self.process.stderr)
        self._outgoing = bytearray()
        self._closes_stdin = False
        self._read: dict[int, bytearray] = {
            stream: bytearray() for stream in (self._stdout, self._stderr, self.replies)
        }
        self._ended = False
        self._selector = selectors.DefaultSelector()
        for stream in (*self._read, self._stdin):
            os.set_blocking(stream, False)
        for stream in (*self._read, self._exit):
            self._selector.register(stream, selectors.EVENT_READ)

    def hand_streams_to(self, uid: int) -> None:
        """So that the program may open /dev/stdin."""
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            os.fchown(self._fileno(stream), uid, uid)

    # --- talking ------------------------------------------------------------------------------------------------------

    def wait_until_ready(self) -> None:
        """Raises SandboxUnavailable where nothing isolated came up."""
        self.deadline = time.monotonic() + START_SECONDS
        try:
            ready = self.receive()
        except Stopped:
            ready = b""
        if ready != READY:
            raise explain_failure(self._last_words()) from None
        if self.info is not None:
            try:
                self._hold_init(json.loads(os.read(self.info, 4096))["child-pid"])
            except OSError as error:
                raise explain_failure(f"its first process cannot be held: {error}") from None

    def _hold_init(self, pid: int) -> None:
        """The first process of the sandbox, which waits for us, so that its number is still its own.

        To an ordinary user's program it is a process of the same user, whose memory it may write: without bounds of its
        own it would be a second program without any.
        """
        self._init = os.pidfd_open(pid)
        self._files = os.open(f"/proc/{pid}/root/tmp", os.O_PATH | os.O_DIRECTORY)
        seconds = self.limits.processor_seconds
        resource.prlimit(pid, resource.RLIMIT_AS, (INIT_MEMORY, INIT_MEMORY))
        resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, seconds))

    def give(self, message: bytes, *, who: str = "the program", stdin: bytes | None = None) -> None:
        """Start the clock with the job; what follows on stdin is the program's own and ends there."""
        self.who = who
        self.started = time.monotonic()
        self.deadline = self.started + self.limits.seconds
        self.send(message)
        if stdin is not None:
            self._outgoing += stdin
            self._closes_stdin = True

    def send(self, message: bytes) -> None:
        self._outgoing += len(message).to_bytes(4, "big") + message
        self._watch_stdin()

    def receive(self) -> bytes:
        """The next frame of replies. Raises Stopped where none comes."""
        buffer = self._read[self.replies]
        self._pump(lambda: self._holds_frame() or self._ended)
        if not self._holds_frame():
            raise Stopped(f"{self.who} ended {self._describe_exit()}", ending="exited")
        size = 4 + int.from_bytes(buffer[:4], "big")
        frame = bytes(buffer[4:size])
        del buffer[:size]
        return frame

    def finish(self) -> Outcome:
        """Wait for the end."""
        ending = "exited"
        try:
            self._pump(lambda: self._ended)
        except Stopped as stopped:
            ending = stopped.ending
        self._kill()
        return Outcome(
            ending=ending,
            exit_code=self.process.returncode,
            stdout=bytes(self._read[self._stdout][: self._most_output]),
            stderr=bytes(self._read[self._stderr][: self._most_output]),
            seconds=time.monotonic() - self.started,
            isolated=self.isolated,
            memory_bound="one process" if self.isolated else "each process",
        )

    def close(self) -> None:
        self._kill()
        self._selector.close()
        for stream in (self.process.stdout, self.process.stderr, self.process.stdin):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        for descriptor in (self.replies, self._exit, self._init, self._files, self.info):
            if descriptor is not None:
                os.close(descriptor)
        if self.home is not None:
            self.home.cleanup()

    # --- the loop -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _fileno(stream: IO[bytes] | None) -> int:
        assert stream is not None
        return stream.fileno()

    def _last_words(self) -> str:
        lines = self._read[self._stderr].decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else ""

    @property
    def _most_output(self) -> int:
        return self.limits.output_kb * 1024

    def _holds_frame(self) -> bool:
        buffer = self._read[self.replies]
        return len(buffer) >= 4 and len(buffer) >= 4 + int.from_bytes(buffer[:4], "big")

    def _pump(self, is_done: Callable[[], bool]) -> None:
        """Move bytes until done. Raises Stopped at the deadline or where too much is written."""
        while not is_done():
            self._watch_stdin()
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise Stopped(f"{self.who} took longer than {self.limits.seconds:g} s", ending="timed out")
            self._count_files()
            for key, _events in self._selector.select(min(left, LOOK_SECONDS)):
                if key.fd == self._exit:
                    self._ended = True
                elif key.fd == self._stdin:
                    self._write()
                else:
                    self._take(key.fd)
            if self._ended:
                self._drain()

    def _take(self, stream: int) -> bool:
        """Read once; whether there may be more."""
        try:
            part = os.read(stream, 65536)
        except BlockingIOError:
            return False
        if not part:
            if stream in self._selector.get_map():
                self._selector.unregister(stream)
            return False
        buffer = self._read[stream]
        buffer += part
        is_reply = stream == self.replies
        most = LONGEST_FRAME + 4 if is_reply else self._most_output
        too_long = is_reply and len(buffer) >= 4 and int.from_bytes(buffer[:4], "big") > LONGEST_FRAME
        if len(buffer) > most or too_long:
            raise Stopped(f"{self.who} wrote more than {most:,} bytes", ending="flooded")
        return True

    def _count_files(self) -> None:
        """Raises Stopped where there are too many: the bound on /tmp counts pages, and an empty file takes none of
        them, but a kilobyte of the kernel's memory."""
        if self._files is None or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        found = os.fstatvfs(self._files)
        if found.f_files - found.f_ffree > self.limits.files:
            raise Stopped(f"{self.who} made more than {self.limits.files:,} files", ending="flooded")

    def _drain(self) -> None:
        """What was written before the end."""
        for stream in self._read:
            while self._take(stream):
                pass

    def _watch_stdin(self) -> None:
        if self._stdin is None:
            return
        is_watched = self._stdin in self._selector.get_map()
        if self._outgoing and not is_watched:
            self._selector.register(self._stdin, selectors.EVENT_WRITE)
        elif not self._outgoing and is_watched:
            self._selector.unregister(self._stdin)
        if not self._outgoing and self._closes_stdin:
            self._close_stdin()

    def _write(self) -> None:
        assert self._stdin is not None
        try:
            del self._outgoing[: os.write(self._stdin, self._outgoing[:65536])]
        except BlockingIOError:
            return
        except BrokenPipeError:  # the program has closed its stdin, which is its own affair
            self._outgoing.clear()
            self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin is not None and self._stdin in self._selector.get_map():
            self._selector.unregister(self._stdin)
        self.process.stdin.close()  # type: ignore[union-attr]
        self._stdin = None

    # --- the end ------------------------------------------------------------------------------------------------------

    def _kill(self) -> None:
        """The sandbox's first process, with which the kernel ends all others; bubblewrap sees it off and ends."""
        if self.process.returncode is None and self._init is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=END_SECONDS)
        if self.process.returncode is None:
            # Not started yet, or not isolated: the group holds what the program started. Its leader has not been waited
            # for, so that its number is nobody else's.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _describe_exit(self) -> str:
        self.process.wait()
        code = self.process.returncode
        number = -code if code < 0 else code - 128
        name = next((item.name for item in signal.Signals if item == number), "")
        last = self._last_words()
        return f"by {name}" if name else f"with code {code}{f' ({last})' if last else ''}"


def start_worker(command: Command, *, limits: Limits, isolated: bool) -> Worker:
    """Starts the command. The thread that calls this must outlive the worker: bubblewrap ends with the thread."""
    home = None if isolated else tempfile.TemporaryDirectory(prefix="unsafe-")
    with contextlib.ExitStack() as opened, contextlib.ExitStack() as undone:
        inherited = {name: _hold(data, until=opened) for name, data in command.files.items()}
        replies, inherited["replies"] = _open_pipe(reader=undone, writer=opened)
        info = None
        if isolated:
            info, inherited["info"] = _open_pipe(reader=undone, writer=opened)
        process = subprocess.Popen(
            [_fill_in(word, inherited) for word in command.words],
            env={},
            cwd="/" if home is None else home.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=tuple(inherited.values()),
            start_new_session=True,
        )
        undone.callback(process.wait)
        undone.callback(process.kill)
        worker = Worker(process, replies, info, limits, isolated, home)
        if command.uid:
            worker.hand_streams_to(command.uid)
        undone.pop_all()
    return worker


def _open_pipe(*, reader: contextlib.ExitStack, writer: contextlib.ExitStack) -> tuple[int, int]:
    """Both ends of a pipe, and who closes them."""
    ends = os.pipe()
    for stack, end in zip((reader, writer), ends, strict=True):
        stack.callback(os.close, end)
    return ends


def _fill_in(word: str, inherited: dict[str, int]) -> str:
    """The number of a descriptor in place of its {name}."""
    return str(inherited[word[1:-1]]) if word[1:-1] in inherited and word[0] == "{" else word


def _hold(data: bytes, *, until: contextlib.ExitStack) -> int:
    """A descriptor to read the data from."""
    descriptor = os.memfd_create("sandbox")
    until.callback(os.close, descriptor)
    with os.fdopen(os.dup(descriptor), "wb") as stream:
        stream.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
