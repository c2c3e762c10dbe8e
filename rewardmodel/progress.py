"""How a run tells where it stands, and how it learns that it should stop.

`Progress` writes status.json at most once a second and draws a bar on stderr; without a run directory it only draws.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

from rewardmodel.rundir import RunDir


class CancelledError(Exception):
    """Someone asked the run to stop, and it did."""


class Progress:
    """The phases of one run, each a count of steps with an estimate of the time left."""

    def __init__(self, run: RunDir | None = None, *, show: bool = True) -> None:
        self.run = run
        self.show = show
        self._bar: tqdm | None = None
        self._first = (0, 0.0)  # step and time at which this process began the phase
        self._total = 0
        self._written = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_bar()

    def start(self, phase: str, *, total: int = 0, step: int = 0) -> None:
        """Enter a phase of `total` steps, of which `step` were done before. Raises CancelledError if asked to stop."""
        self._close_bar()
        self._first, self._total = (step, time.monotonic()), total
        if self.run:
            self.run.write_status(phase=phase, step=step, total_steps=total, eta_seconds=None)
        if total:
            self._bar = tqdm(total=total, initial=step, desc=phase, file=sys.stderr, disable=not self.show)
        self.check()

    def advance(self, step: int) -> None:
        """Say that `step` steps of the phase are done. Never raises CancelledError: see `check`."""
        if self._bar:
            self._bar.update(step - self._bar.n)
        now = time.monotonic()
        if self.run and (now - self._written >= 1 or step >= self._total):
            self._written = now
            self.run.write_status(step=step, eta_seconds=self._estimate(step, now=now))

    def check(self) -> None:
        """Raise CancelledError if someone asked the run to stop."""
        if self.run and self.run.cancel_requested():
            raise CancelledError("cancelled on request")

    def _estimate(self, step: int, *, now: float) -> float | None:
        done = step - self._first[0]
        if done <= 0 or not self._total:
            return None
        return round((now - self._first[1]) / done * max(self._total - step, 0), 1)

    def _close_bar(self) -> None:
        if self._bar:
            self._bar.close()
            self._bar = None
