"""Functions of one's own, good and bad, for the kind python."""

import os
import time
from typing import Any

_calls: list[str] = []


def accept(prompt: Any, response: str) -> bool:
    return response == "yes"


def share(prompt: Any, response: str, share: float) -> float:
    return share


def count(prompt: Any, response: str) -> bool:
    """True at every second call."""
    _calls.append(response)
    return len(_calls) % 2 == 0


def crash(prompt: Any, response: str) -> bool:
    raise KeyError("x")


def hang(prompt: Any, response: str) -> bool:
    time.sleep(60)
    return True


def die(prompt: Any, response: str) -> bool:
    os._exit(1)


def nonsense(prompt: Any, response: str) -> str:
    return "maybe"
