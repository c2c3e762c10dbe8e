"""Runs model-written Python where it can harm nobody, and asks it questions.

    with Sandbox() as sandbox:
        outcome = sandbox.run("print(input()[::-1])", stdin="abc")      # a program with stdin and stdout
        with sandbox.serve("def f(x): return x + 1") as program:        # a module whose functions are called
            program.call("f", [1])                                      # 2
        for reason in sandbox.judge(program, tests=…):                  # tests that run apart from the program

Every program gets a sandbox that nothing ran in before and nothing runs in after; what makes it cheap is that the next
ones start while this one works. Programs are one process each (threads yes, fork no), so that the bound on memory is a
bound. Where nothing isolates, `Sandbox()` raises SandboxUnavailable; `unsafe=True` runs plain processes instead and
says so in every outcome.

Left out: other languages than Python, packages other than the standard library, GPUs. docs/verifiers.md says what is
isolated, how, and what remains.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from rewardmodel.sandbox import inside
from rewardmodel.sandbox.isolation import (
    Limits,
    SandboxUnavailable,
    build_command,
    build_unsafe_command,
    explain_failure,
    find_bubblewrap,
)
from rewardmodel.sandbox.worker import Outcome, Stopped, Worker, start_worker

__all__ = [
    "Limits", "Opaque", "Outcome", "Program", "ProgramFault", "Sandbox", "SandboxUnavailable", "Stopped", "encode_value"
]  # fmt: skip

MOST_SPARE = 16  # one thread starts them all, and each holds a dozen files open


class ProgramFault(Exception):
    """The program raised something, or answered with what is no value; the message tells it in one line."""


class Opaque:
    """A result that is no plain value, so that nothing equals it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"an object of type {self.kind}"


class Program:
    """A program that is loaded and waits for calls."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def call(self, name: str, arguments: Sequence[Any], /, **named: Any) -> Any:
        """The result, as a claim of the program. Raises ProgramFault, or Stopped where it does not answer."""
        reply = self.exchange(
            f'{{"do":"call","of":{{"name":{json.dumps(name)}}},"arguments":{encode_value(list(arguments))},'
            f'"named":{encode_value(named)}}}'.encode()
        )
        return read_reply(reply)

    def exchange(self, request: bytes) -> bytes:
        self._worker.send(request)
        return self._worker.receive()


class Sandbox:
    """A pool of sandboxes that are started ahead; `close` it, or use it as a context. Threads may share it.

    spare: how many wait, beyond those at work; as many as the machine has cores do, up to MOST_SPARE.
    """

    def __init__(self, *, limits: Limits | None = None, spare: int | None = None, unsafe: bool = False) -> None:
        self.limits = limits or Limits()
        self.isolated = not unsafe
        self._bubblewrap = "" if unsafe else find_bubblewrap()
        self._waiting: queue.Queue[Worker | Exception] = queue.Queue(
            maxsize=spare or min(os.cpu_count() or 1, MOST_SPARE)
        )
        self._closing = threading.Event()
        # One thread starts all workers: the kernel ends them with the thread that started them.
        self._starter = threading.Thread(target=self._keep_starting, name="sandbox", daemon=True)
        self._starter.start()
        try:
            self._try()
        except BaseException:
            self.close()
            raise

    def run(self, program: str, *, stdin: str = "") -> Outcome:
        """The program as a program, to its end."""
        with self._take() as worker:
            worker.give(_job(do="run", program=program), stdin=stdin.encode())
            return worker.finish()

    @contextlib.contextmanager
    def serve(self, program: str) -> Iterator[Program]:
        """The program as a module. Raises ProgramFault or Stopped where it does not load."""
        with self._take() as worker:
            worker.give(_job(do="serve", program=program))
            read_reply(worker.receive())
            yield Program(worker)

    def judge(
        self, program: Program, *, setup: str, tests: Sequence[str], names: Sequence[str], modules: Sequence[str]
    ) -> Iterator[str]:
        """Of each test why it fails, empty where it holds. Raises Stopped where the program or the tests end early.

        The tests run in a sandbox of their own. `names` are the program's there, `modules` are imported.
        """
        with self._take() as worker:
            job = _job(do="judge", setup=setup, tests=list(tests), names=list(names), modules=list(modules))
            worker.give(job, who="the tests")
            told = 0
            while told < len(tests):
                match _read_told(worker.receive()):
                    case {"ask": str(request)}:
                        worker.send(program.exchange(request.encode()))
                    case {"verdict": str(reason)}:
                        told += 1
                        yield reason

    def close(self) -> None:
        """End the pool; workers that are at work end with their users."""
        self._closing.set()
        while self._starter.is_alive():
            with contextlib.suppress(queue.Empty):
                self._end(self._waiting.get(timeout=0.05))
        while not self._waiting.empty():
            self._end(self._waiting.get())

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _take(self) -> Iterator[Worker]:
        if self._closing.is_set():
            raise RuntimeError("the sandbox is closed")
        worker = self._waiting.get()
        if isinstance(worker, Exception):
            raise worker
        try:
            worker.wait_until_ready()
            yield worker
        finally:
            worker.close()

    def _try(self) -> None:
        """Raises SandboxUnavailable where the standard library cannot be read by who the program will be."""
        outcome = self.run("import json, re")
        if outcome.exit_code:
            raise explain_failure(f"Python does not start ({outcome.stderr.decode(errors='replace')[-200:].strip()})")

    def _keep_starting(self) -> None:
        while not self._closing.is_set():
            try:
                self._waiting.put(self._start())
            except OSError as error:  # no process, descriptor or memory left, or a call that is forbidden here
                self._waiting.put(explain_failure(f"it does not start ({error})"))
            except Exception as error:  # it belongs to whoever waits for a worker
                self._waiting.put(error)

    def _start(self) -> Worker:
        command = (
            build_command(bubblewrap=self._bubblewrap, limits=self.limits)
            if self.isolated
            else build_unsafe_command(self.limits)
        )
        return start_worker(command, limits=self.limits, isolated=self.isolated)

    @staticmethod
    def _end(worker: Worker | Exception) -> None:
        if isinstance(worker, Worker):
            worker.close()


def _read_told(frame: bytes) -> Any:
    """What the tests say. Raises Stopped where that cannot be read: they are code too, and may write anything."""
    try:
        return json.loads(frame)
    except (ValueError, RecursionError):
        raise Stopped("the tests say what cannot be read", ending="exited") from None


def read_reply(reply: bytes) -> Any:
    """The value that a program claims. Raises ProgramFault for a fault, and for what is no value."""
    try:
        parsed = json.loads(reply)
        if "fault" in parsed:
            kind, text = parsed["fault"]
            raise ProgramFault(" ".join(f"{kind}: {text}".split()).removesuffix(":"))
        if "missing" in parsed:
            raise ProgramFault("not defined")
        return inside.decode(parsed["value"], follow=_keep_opaque)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ProgramFault(f"its answer cannot be read: {error}") from None


def _keep_opaque(tag: str, content: Any) -> Opaque:
    if tag != "object":
        raise ValueError(f"unknown kind of value: {tag[:50]}")
    return Opaque(str(content[1])[:50])


def encode_value(value: Any) -> str:
    """The value as a program is sent it. Raises TypeError for what is no plain value."""
    return inside.encode(value, refer=_refuse)


def _refuse(value: Any) -> str:
    raise TypeError(f"{type(value).__name__} is no plain value")


def _job(**parts: Any) -> bytes:
    return json.dumps(parts).encode()
