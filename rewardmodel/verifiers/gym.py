"""Tasks of reasoning-gym, checked by their own checkers.

Some of those checkers give texts to Python's `eval` or to sympy's parser, which calls it. Responses are hostile, and so
are data rows. For such a checker the answer and the entry may hold formulas (numbers, operators, brackets, single
letters, a few names of functions) or words and texts without round brackets, which call nothing; any other is refused
unread. What the package itself does is trusted.
"""

from __future__ import annotations

import inspect
import re
from functools import lru_cache
from typing import Any

from rewardmodel.verifiers.answers import find_marked

EVALUATES = re.compile(r"\b(?:eval|exec|parse_expr|sympify|compile|__import__)\s*\(")
HARMLESS = re.compile(r"(?:[\s\d+\-*/^(),=<>&|~%\[\]]|(?<=\d)\.|\.(?=\d))*")
# Dotted names, strings, double underscores and calls of anything else cannot be written with these.
NAMES = re.compile(
    r"\b(?:[A-Za-z]|sin|cos|tan|sec|csc|cot|asin|acos|atan|sinh|cosh|tanh|log|ln|exp|sqrt|pi|True|False)\b"
)
PLAIN = re.compile(r"[^()@;\\`]*")
REACHES = re.compile(r"__|\.\s*[A-Za-z_]|\b(?:import|lambda|from|for|while|del|raise|yield|await|with)\b")
LONGEST = 2000


def score_entry(response: str, *, dataset: str, entry: dict[str, Any]) -> tuple[float, str]:
    """The checker's score of the marked answer (else of the whole response), 0 to 1, and why."""
    answer = (find_marked(response) or response).strip()
    checker = load_checker(dataset)
    if checker is None:
        return 0.0, f"reasoning-gym has no task {dataset}"
    score_answer, evaluates = checker
    if evaluates and not all(map(is_harmless, [answer, *list_texts({**entry, "question": ""})])):
        return 0.0, "refused: this task's checker evaluates texts, and one here is no formula and could call something"
    score = float(score_answer(answer=answer, entry=entry))
    return min(max(score, 0.0), 1.0), f"reasoning-gym's {dataset} scores it {score:g}"


@lru_cache(maxsize=64)
def load_checker(dataset: str) -> tuple[Any, bool] | None:
    """A task's checker, and whether its module evaluates text as code; None for a task that is not there."""
    from reasoning_gym.factory import DATASETS, get_score_answer_fn

    if dataset not in DATASETS:
        return None
    modules = [inspect.getmodule(kind) for kind in DATASETS[dataset][0].__mro__]
    sources = [
        inspect.getsource(module) for module in modules if module and module.__name__.startswith("reasoning_gym")
    ]
    return get_score_answer_fn(dataset), any(EVALUATES.search(source) for source in sources)


def list_texts(value: Any) -> list[str]:
    """Every text inside a JSON value, keys included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return [text for item in value for text in list_texts(item)] if isinstance(value, list) else []


def is_harmless(answer: str) -> bool:
    """Whether an answer may be given to a checker that evaluates it."""
    if len(answer) > LONGEST:
        return False
    is_formula = HARMLESS.fullmatch(NAMES.sub(" ", answer)) is not None
    return is_formula or (PLAIN.fullmatch(answer) is not None and REACHES.search(answer) is None)
