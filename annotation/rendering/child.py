"""The process that renders: `python -m annotation.rendering.child` on a socket as its standard input and output.

It reads frames of JSON (see frames.py), {"texts": [...]}, and answers each text with a frame of its own:
{"html", "text"}, or {"refused": why}. It has no settings, no database and no secrets. A text may take `CPU_SECONDS` of
processor time: the kernel then ends the process, whatever it is doing, and the server starts another (see
renderer.py). It also ends where the server does, at the end of its input.
"""

from __future__ import annotations

import resource
import signal
import socket

from annotation.rendering.frames import CPU_SECONDS, receive, send
from annotation.rendering.markup import render

MEMORY_BYTES = 512 * 1024 * 1024
LIFETIME_CPU_SECONDS = 600
"""After which the kernel ends the process in any case; it retires well before."""


def main() -> None:
    """Limits itself, says that it is ready, and answers until its input ends or it has worked long enough."""
    _limit()
    connection = socket.socket(fileno=0)
    send(connection, {"ready": True})
    while (request := receive(connection)) is not None:
        retires = _cpu_seconds() > LIFETIME_CPU_SECONDS / 2
        texts = request["texts"]
        assert isinstance(texts, list)
        for text in texts:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            answer: dict[str, object]
            try:
                made, seen = render(text)
                answer = {"html": made, "text": seen}
            except Exception as error:  # a bug in a library must cost this text its looks and nothing else
                answer = {"refused": f"{type(error).__name__}: {error}"[:200]}
            signal.setitimer(signal.ITIMER_PROF, 0)
            send(connection, answer | ({"retires": True} if retires else {}))
        if retires:
            return


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (LIFETIME_CPU_SECONDS, LIFETIME_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
