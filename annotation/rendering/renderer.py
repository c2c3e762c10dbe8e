"""Rendering for the server: one child process, its deadlines, and a cache.

A text that is too long, too heavy, or that ends the child is shown as plain text (`Rendered.is_plain`), and so it is
remembered. Where only time ran short, because the machine is busy or the page holds many heavy texts, it is plain for
once and tried again the next time. Where no child can be started at all, `RenderingUnavailable` is raised.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django.utils.safestring import SafeString, mark_safe

from annotation.rendering.controls import escape_plain
from annotation.rendering.frames import CPU_SECONDS, receive, send

LONGEST_TEXT = 64 * 1024
"""Bytes of UTF-8 above which a text is not rendered."""
WALL_SECONDS = 2 * CPU_SECONDS
"""How long the server waits for one text; the child has half of it, in processor time."""
BATCH_SECONDS = 3.0
"""How long one call may take in all before what is left is shown as plain text for once."""
START_SECONDS = 15.0
CACHED_TEXTS, CACHED_BYTES = 4_000, 32 * 1024 * 1024

logger = logging.getLogger(__name__)


class RenderingUnavailable(RuntimeError):
    """The child process could not be started."""


@dataclass(frozen=True)
class Rendered:
    """A text as it is shown.

    `html` goes into `<div class="md" dir="auto">` without a space around it. `text` is the textContent of `html`, to
    the character: highlights are counted in it. `is_plain` says that the text was too heavy to render.
    """

    html: SafeString
    is_plain: bool
    text: str


def render_markdown(text: str) -> Rendered:
    """One text as HTML. Raises RenderingUnavailable."""
    return render_many([text])[0]


def render_many(texts: Sequence[str]) -> list[Rendered]:
    """The texts as HTML, in their order, in one exchange with the child. Raises RenderingUnavailable."""
    keys = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
    found = {key: _cache.get(key) for key in keys}
    missing = {key: text for key, text in zip(keys, texts, strict=True) if found[key] is None}
    if missing:
        found |= zip(missing, _render_uncached(list(missing.values())), strict=True)
        for key in missing:
            if (result := found[key]) and not result.is_makeshift:
                _cache.put(key, result)
    results = (found[key] for key in keys)
    return [result.rendered for result in results if result is not None]


@dataclass(frozen=True)
class _Result:
    rendered: Rendered
    is_makeshift: bool = False
    """Plain only because time ran short: not remembered."""


def _plain(text: str, *, because: str, is_makeshift: bool = False) -> _Result:
    logger.info("a text of %d characters is shown as plain text: %s", len(text), because)
    made, seen = escape_plain(text)
    rendered = Rendered(html=mark_safe(f'<div class="plain" dir="auto">{made}</div>'), is_plain=True, text=seen)
    return _Result(rendered, is_makeshift=is_makeshift)


def _render_uncached(texts: list[str]) -> list[_Result]:
    results: dict[int, _Result] = {}
    for index, text in enumerate(texts):
        if len(text) > LONGEST_TEXT or len(text.encode("utf-8", "surrogatepass")) > LONGEST_TEXT:
            results[index] = _plain(text, because="longer than 64 KiB")
    waiting = [index for index in range(len(texts)) if index not in results]
    answers = _renderer.render([texts[index] for index in waiting]) if waiting else []
    for index, answer in zip(waiting, answers, strict=True):
        if isinstance(answer, _Failure):
            results[index] = _plain(texts[index], because=answer.because, is_makeshift=answer.is_makeshift)
        else:
            made, seen = answer
            results[index] = _Result(Rendered(html=mark_safe(made), is_plain=False, text=seen))
    return [results[index] for index in range(len(texts))]


@dataclass(frozen=True)
class _Failure:
    because: str
    is_makeshift: bool = False


_Answer = tuple[str, str] | _Failure


class _Gone(Exception):
    """The child ended, or was ended, while it had a text in hand."""

    def __init__(self, *, because: str, is_makeshift: bool = False, may_retry: bool = False) -> None:
        super().__init__(because)
        self.failure = _Failure(because, is_makeshift=is_makeshift)
        self.may_retry = may_retry


class _Child:
    """One process and its connection."""

    def __init__(self) -> None:
        self._connection, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "annotation.rendering.child"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                cwd="/",
                env=_environment(),
                start_new_session=True,  # Ctrl-C in a terminal is the server's, whose end the child sees
            )
        except OSError as error:
            self._connection.close()
            raise RenderingUnavailable(f"The process that renders Markdown could not be started: {error}") from error
        finally:
            theirs.close()
        self._connection.settimeout(START_SECONDS)
        try:
            ready = receive(self._connection)
        except OSError:
            ready = None
        if not ready:
            status = self.kill()
            raise RenderingUnavailable(
                f"The process that renders Markdown did not start (exit status {status}); "
                f"try `{sys.executable} -m annotation.rendering.child < /dev/null` and read what it says."
            )

    def ask(self, texts: list[str]) -> None:
        """Sends the texts, whose answers `next_answer` then gives one by one. Raises _Gone."""
        self._connection.settimeout(WALL_SECONDS)
        try:
            send(self._connection, {"texts": texts})
        except OSError as error:
            self.kill()
            raise _Gone(because=f"the renderer is gone ({error})", may_retry=True) from error

    def next_answer(self) -> tuple[_Answer, bool]:
        """The next text's answer, and whether the child retires after this batch. Raises _Gone; it is ended then."""
        self._connection.settimeout(WALL_SECONDS)
        try:
            frame = receive(self._connection)
        except TimeoutError as error:
            self.kill()
            raise _Gone(because=f"no answer in {WALL_SECONDS:.0f} s", is_makeshift=True) from error
        except (OSError, ValueError) as error:
            self.kill()
            raise _Gone(because=f"the renderer is gone ({error})", may_retry=True) from error
        if frame is None:
            status = self.kill()
            if status == -signal.SIGPROF:
                raise _Gone(because=f"more than {CPU_SECONDS:.0f} s of processor time")
            raise _Gone(because=f"the renderer ended with status {status}", may_retry=True)
        retires = bool(frame.get("retires"))
        if "refused" in frame:
            return _Failure(str(frame["refused"])), retires
        return (str(frame["html"]), str(frame["text"])), retires

    def kill(self) -> int:
        """Ends the process; its exit status, negative for a signal."""
        self._connection.close()
        try:
            return self._process.wait(0.2)  # a child that just died needs a moment to be counted as dead
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def forget(self) -> None:
        """After a fork: the process is the parent's, and its end of the connection must not stay open here."""
        self._connection.close()
        self._process.returncode = 0


def _environment() -> dict[str, str]:
    """Where the modules are, and nothing of the server's: no SECRET_KEY, no DATABASE_URL."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *(path for path in sys.path if path and os.path.isabs(path) and path != root)]
    return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8"}


class _Renderer:
    """The child, started when first needed, used by one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def render(self, texts: list[str]) -> list[_Answer]:
        """An answer for each text, within about `BATCH_SECONDS`. Raises RenderingUnavailable."""
        if not self._lock.acquire(timeout=BATCH_SECONDS):
            return [_Failure("the renderer is busy", is_makeshift=True)] * len(texts)
        try:
            return self._render(texts)
        finally:
            self._lock.release()

    def _render(self, texts: list[str]) -> list[_Answer]:
        answers: list[_Answer] = []
        deadline = time.monotonic() + BATCH_SECONDS
        retried = False
        while len(answers) < len(texts):
            if time.monotonic() > deadline:
                late = _Failure("the texts before it took too long", is_makeshift=True)
                return answers + [late] * (len(texts) - len(answers))
            child = self._child = self._child or _Child()
            known = len(answers)
            try:
                child.ask(texts[known:])
                retires = False
                while len(answers) < len(texts):
                    answer, retires = child.next_answer()
                    answers.append(answer)
                if retires:
                    self.close()
            except _Gone as gone:
                self._child = None
                if len(answers) > known:
                    retried = False
                if gone.may_retry and not retried:
                    retried = True
                    continue
                answers.append(gone.failure)
                retried = False
            except BaseException:
                self.close()  # half an exchange would be answered to the next one
                raise
        return answers

    def close(self) -> None:
        """Ends the child, if there is one; the next text starts another."""
        child, self._child = self._child, None
        if child:
            child.kill()

    def after_fork(self) -> None:
        """In the forked process: a lock that nobody holds, and no share in the parent's child."""
        child, self._child = self._child, None
        self._lock = threading.Lock()
        if child:
            child.forget()


class _Cache:
    """Results by the hash of their text, the longest unused going first; bounded by count and by size."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: OrderedDict[bytes, _Result] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> _Result | None:
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
            return self._results.get(key)

    def put(self, key: bytes, result: _Result) -> None:
        with self._lock:
            if key in self._results or _size(result) > CACHED_BYTES // 4:
                return
            self._results[key] = result
            self._bytes += _size(result)
            while len(self._results) > CACHED_TEXTS or self._bytes > CACHED_BYTES:
                _key, oldest = self._results.popitem(last=False)
                self._bytes -= _size(oldest)

    def clear(self) -> None:
        with self._lock:
            self._results.clear()
            self._bytes = 0

    def after_fork(self) -> None:
        self._lock = threading.Lock()


def _size(result: _Result) -> int:
    return sys.getsizeof(result.rendered.html) + sys.getsizeof(result.rendered.text)


_cache = _Cache()
_renderer = _Renderer()
atexit.register(_renderer.close)


def _after_fork() -> None:
    _renderer.after_fork()
    _cache.after_fork()


os.register_at_fork(after_in_child=_after_fork)
