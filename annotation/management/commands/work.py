"""Works off queued runs: leases one, starts it in a process of its own, heartbeats, copies its facts back.

Before it looks for a run, it moves pipelines on whose run has ended.

Several workers may run beside each other, also on several machines that share DATA_DIR and the database. A worker
that is told to stop (SIGTERM, Ctrl+C) gives its run back at a checkpoint; one that dies leaves a lease that lapses.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import time
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import InterfaceError, OperationalError, connection

from annotation import runner
from annotation.domain import pipelines, runs
from annotation.models import Run

logger = logging.getLogger(__name__)
IDLE_SECONDS = 1.0
POLL_SECONDS = 0.25
STOP_GRACE_SECONDS = 120


class Command(BaseCommand):
    help = "Work off queued runs until told to stop."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--drain", action="store_true", help="Stop when no run is waiting.")
        parser.add_argument(
            runner.UNSAFE_CODE,
            action="store_true",
            help="Let runs execute model-written code even where nothing isolates it: it can read, write and send what "
            "this worker can. Their pages say so.",
        )

    def handle(self, *args: Any, drain: bool = False, unsafe_without_sandbox: bool = False, **options: Any) -> None:
        self.stopping = False
        self.unsafe_code = unsafe_without_sandbox
        before = {number: signal.signal(number, self.stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.work_off(f"{socket.gethostname()}/{os.getpid()}", drain=drain)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def work_off(self, worker: str, *, drain: bool) -> None:
        """Lease and execute runs until told to stop, or until none waits."""
        while not self.stopping:
            try:
                pipelines.advance_waiting()
                run = runs.claim_run(worker) if runs.is_run_waiting() else None
                if run is not None:
                    self.execute_run(run)
                elif drain:
                    return
            except (OperationalError, InterfaceError) as error:
                # A locked or restarting database passes; a run in hand is leased again once its lease has lapsed.
                logger.warning("the database does not answer, trying again: %s", error)
                run = None
            if run is None:
                connection.close()  # an idle worker holds no connection
                time.sleep(IDLE_SECONDS)

    def stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def execute_run(self, run: Run) -> None:
        """See one run through to its end, or give it back. Whatever is wrong with the run is written into it."""
        logger.info("run %s: attempt %s starts (%s)", run, run.attempt, run.method)
        try:
            self.see_through(run)
        except (OperationalError, InterfaceError):
            raise
        except runs.RunRefused as error:
            runs.fail_run(run, error=str(error))
            logger.warning("run %s: refused: %s", run, error)
        except Exception as error:
            # Left running, it would be leased to the next worker and bring that one down too.
            logger.exception("run %s: the worker could not carry it out", run)
            runs.fail_run(run, error=f"The worker could not carry it out: {type(error).__name__}: {error}")

    def see_through(self, run: Run) -> None:
        if run.cancel_requested:
            runs.cancel_claimed_run(run)
            return
        directory = runs.prepare_run(run)
        process = runner.start_process(directory, data_dir=settings.DATA_DIR, unsafe_code=self.unsafe_code)
        try:
            held = self.watch(run, process)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if held and process.returncode == runner.EXIT_BUSY:
            # The process of a worker that fell silent is still at it: wait for that worker to notice and stop it.
            runs.release_run(run)
            logger.warning("run %s: its directory is still in use, given back", run)
            time.sleep(IDLE_SECONDS)
        elif self.stopping and held and not run.cancel_requested and process.returncode != 0:
            runs.release_run(run)
            logger.info("run %s: given back", run)
        elif held:
            finished = runs.finish_run(run, exit_code=process.returncode)
            logger.info("run %s: %s %s", run, finished.state, finished.error)
        else:
            logger.warning("run %s: lease lost, process stopped", run)

    def watch(self, run: Run, process: subprocess.Popen[bytes]) -> bool:
        """Heartbeat until the process ends; say whether the lease was held to the end."""
        beat_seconds = max(0.5, min(2.0, settings.WORKER_LEASE_SECONDS / 4))
        next_beat, asked_at = 0.0, None
        while process.poll() is None:
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + beat_seconds
                if not runs.heartbeat_run(run):
                    return False
            if asked_at is None and (self.stopping or run.cancel_requested):
                asked_at = now
                process.terminate()
            if asked_at is not None and now - asked_at > STOP_GRACE_SECONDS:
                process.kill()
            time.sleep(POLL_SECONDS)
        return runs.heartbeat_run(run)
