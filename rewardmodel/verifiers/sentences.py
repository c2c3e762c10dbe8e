"""Sentences and words as the constraints count them.

Sentences are split by NLTK's Punkt algorithm (Kiss and Strunk 2006) with the abbreviations below. The published IFEval
loads a trained English model of it, a download that a server without network has not; texts without abbreviations are
split alike.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

ABBREVIATIONS = (
    "mr", "mrs", "ms", "dr", "prof", "rev", "gen", "sen", "rep", "gov", "capt", "col", "lt", "sgt", "adm", "st", "jr",
    "sr", "messrs", "mme", "mlle", "hon", "pres", "supt", "inc", "ltd", "co", "corp", "cos", "bros", "llc", "plc",
    "assn", "dept", "est", "vs", "etc", "cf", "al", "e.g", "i.e", "viz", "approx", "resp", "a.m", "p.m", "a.d", "b.c",
    "u.s", "u.k", "u.n", "u.s.a", "d.c", "n.y", "l.a", "e.u", "ph.d", "m.d", "b.a", "m.a", "b.s", "m.s", "j.d",
    "d.d.s", "r.n", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "mon", "tue",
    "tues", "wed", "thu", "thur", "thurs", "fri", "ave", "blvd", "rd", "mt", "ft", "fig", "figs", "eq", "eqs", "sec",
    "ch", "vol", "pp", "ed", "eds", "ca",
)  # fmt: skip
STARTERS = (
    "the", "he", "she", "it", "we", "they", "you", "this", "that", "these", "those", "in", "on", "at",
    "but", "and", "however", "there", "if", "when",
)  # fmt: skip


@lru_cache(maxsize=1)
def _load_splitter() -> Any:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

    parameters = PunktParameters()
    parameters.abbrev_types.update(ABBREVIATIONS)
    parameters.sent_starters.update(STARTERS)
    return PunktSentenceTokenizer(parameters)


@lru_cache(maxsize=1)
def _load_tokenizer() -> Any:
    from nltk.tokenize.destructive import NLTKWordTokenizer

    return NLTKWordTokenizer()


def split_sentences(text: str) -> list[str]:
    """The sentences of a text."""
    sentences: list[str] = _load_splitter().tokenize(text)
    return sentences


def count_words(text: str) -> int:
    r"""Runs of letters, digits and underscores: "don't" is two words."""
    return len(re.findall(r"\w+", text))


def split_tokens(text: str) -> list[str]:
    """Words and punctuation as the Penn Treebank splits them: "DON'T" is "DO" and "N'T", hyphens hold together."""
    return [token for sentence in split_sentences(text) for token in _load_tokenizer().tokenize(sentence)]
