"""The process that `workers` starts: reads a request, answers it, until the other end is gone.

    python -m rewardmodel.verifiers.worker FILE_DESCRIPTOR

Requests and answers are JSON: {"prepare": kind} -> {}; {"kind", "settings", "prompt", "response"} -> a verdict's
fields, or {"crashed": "…"} for a checker that raised. Every request says how many `seconds` it may take.
"""

from __future__ import annotations

import json
import math
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from rewardmodel.verifiers.registry import find_kind

# Address space of a worker: a power of a power asks for more, and ends as a crash.
MEMORY_BYTES = 4 << 30


def serve(connection: Connection) -> None:
    """Answer requests until the connection is closed."""
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        # Where the other end was killed in the middle of a check, nobody else would stop this one.
        signal.alarm(math.ceil(request["seconds"]) + 5)
        reply = json.dumps(answer(request)).encode()
        signal.alarm(0)
        connection.send_bytes(reply)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request; a checker that raises is told, so that it becomes a verdict."""
    try:
        if "prepare" in request:
            find_kind(request["prepare"]).prepare()
            return {}
        kind = find_kind(request["kind"])
        verdict = kind.check(request["prompt"], response=request["response"], spec=kind.parse(request["settings"]))
        return {"passed": verdict.passed, "score": verdict.score, "reason": verdict.reason}
    except Exception as error:
        return {"crashed": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Serve the file descriptor named by the first argument."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
