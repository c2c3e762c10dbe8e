"""Checks in processes of their own, so that one that hangs, crashes or takes all memory costs nothing but itself.

A worker is started once and asked again and again: a check costs a fraction of a millisecond. One that does not answer
within its wall-clock limit is killed and replaced. This bounds our own checkers, whose input is hostile; it does not
confine code: what a model wrote runs in the sandbox, never here. `worker` is the other end.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection, Pipe
from typing import Any

# A worker imports what it needs before its first check, outside of that check's limit.
START_SECONDS = 120.0
# On a busy machine an answer that came in time may be read late.
GRACE_SECONDS = 0.25


class NoAnswerError(RuntimeError):
    """A worker did not answer in time, or died; the message says which."""


class Worker:
    """One process that answers requests one by one; started when first asked, and again after it was killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._prepared: set[str] = set()

    def ask(self, request: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
        """The answer to a request {"kind": …}. Raises NoAnswerError after `seconds`, or where the process died."""
        kind = str(request["kind"])
        if kind not in self._prepared:
            self._exchange({"prepare": kind}, seconds=START_SECONDS)
            self._prepared.add(kind)
        return self._exchange(request, seconds=seconds + GRACE_SECONDS)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._connection is not None:
            self._connection.close()
        self._process, self._connection, self._prepared = None, None, set()

    def _exchange(self, request: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
        connection = self._connection or self._start()
        try:
            connection.send_bytes(json.dumps({**request, "seconds": seconds}).encode())
            if not connection.poll(seconds):
                raise NoAnswerError(f"took longer than {seconds - GRACE_SECONDS:g} s and was stopped")
            answer: dict[str, Any] = json.loads(connection.recv_bytes())
        except (EOFError, OSError, ValueError) as error:
            self.close()
            raise NoAnswerError(f"crashed ({type(error).__name__}); too deep or too large an input?") from None
        except BaseException:
            self.close()  # interrupted: the answer under way must not be taken for that of the next request
            raise
        return answer

    def _start(self) -> Connection:
        ours, theirs = Pipe()
        # Imports are those of this process, no more: -P keeps the working directory out.
        command = [sys.executable, "-P", "-m", "rewardmodel.verifiers.worker", str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        # Whatever a checker's library prints is not for the command's stdout.
        self._process = subprocess.Popen(
            command,
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self._connection = ours
        return ours


class WorkerPool:
    """Several workers, each asked by one thread at a time; a context manager."""

    def __init__(self, size: int = 1) -> None:
        self._workers = [Worker() for _ in range(size)]
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)

    def ask(self, request: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
        """The answer of the next free worker. Raises NoAnswerError as `Worker.ask` does."""
        worker = self._free.get()
        try:
            return worker.ask(request, seconds=seconds)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.close()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


_lock = threading.Lock()
_shared: WorkerPool | None = None


def shared_pool() -> WorkerPool:
    """The one worker of single checks, started when first needed; it ends with this process, whose pipe it reads."""
    global _shared
    with _lock:
        if _shared is None:
            _shared = WorkerPool()
        return _shared


def close_shared_pool() -> None:
    """End the shared worker; the next check starts another."""
    with _lock, contextlib.suppress(ProcessLookupError):
        if _shared is not None:
            _shared.close()
