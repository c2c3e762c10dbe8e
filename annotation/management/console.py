"""What the long commands share: child processes that end with us, and a progress bar that follows a run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from django.core.management.base import CommandError
from tqdm import tqdm

from annotation.models import Run

STOP_SECONDS = 130
WAITING = (Run.State.QUEUED, Run.State.RUNNING)


class Children:
    """Processes started by a command; if one ends by itself, something is wrong."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, variables: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start this interpreter with these arguments, in our environment with these variables set."""
        process = subprocess.Popen([sys.executable, *arguments], env={**os.environ, **(variables or {})})
        self.processes.append(process)
        return process

    def require_alive(self) -> None:
        """Raise CommandError if one has ended."""
        if any(process.poll() is not None for process in self.processes):
            raise CommandError("The web server or the worker ended; see the messages above.")

    def stop(self) -> None:
        """Ask all to stop (a worker saves a checkpoint first) and wait."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def child_processes() -> Iterator[Children]:
    """Children that are stopped when the block ends, however it ends.

    SIGTERM counts as Ctrl+C; so does SIGINT where a shell started us in the background and had it ignored.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    children = Children()
    try:
        yield children
    finally:
        children.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def follow_run(run: Run, *, label: str, children: Children) -> Run:
    """Show a run's progress until it ends. Raises CommandError unless it succeeds."""
    with tqdm(desc=label, disable=None) as bar:
        while run.state in WAITING:
            children.require_alive()
            bar.total = run.status.get("total_steps") or bar.total
            bar.set_postfix_str(run.status.get("phase") or run.state)
            bar.update((run.status.get("step") or 0) - bar.n)
            time.sleep(0.5)
            run.refresh_from_db()
        bar.update((bar.total or bar.n) - bar.n)
    if run.state != Run.State.SUCCEEDED:
        raise CommandError(f"{label}: the run ended as {run.state}: {run.error or 'see its log.txt'}")
    return run
