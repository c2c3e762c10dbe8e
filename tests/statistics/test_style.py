"""Features of style, counted by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest

from annotation.statistics.bradley_terry import style_differences
from annotation.statistics.style import FEATURES, features_of, style_features


@pytest.mark.parametrize(
    ("text", "headings", "bold", "lists", "code"),
    [
        ("Plain words, 2 * 3 * 4 and #1.", 0, 0, 0, 0),
        ("# One\n\n### Two\n####### seven signs are none\n#none", 2, 0, 0, 0),
        ("**bold** and __bold__, *not*, ** not closed", 0, 2, 0, 0),
        ("- a\n* b\n  + c\n1. d\n12) e\n-not\n- ", 0, 0, 6, 0),
        (
            "Look:\n```python\n# no heading\n- no item\n```\n- item",
            0,
            0,
            1,
            len("```python\n# no heading\n- no item\n```"),
        ),
        ("~~~\n**x**\n", 0, 0, 0, len("~~~\n**x**\n")),
        ("", 0, 0, 0, 0),
    ],
)
def test_what_is_counted(text, headings, bold, lists, code):
    assert features_of(text) == (len(text), headings, bold, lists, code)


def test_a_table_has_a_column_for_each_feature():
    table = style_features(["# A", "b"])
    assert table.shape == (2, len(FEATURES))
    assert table[:, 0].tolist() == [3, 1]
    assert style_features([]).shape == (0, len(FEATURES))
    assert np.sign(style_differences(table[:1], right=table[1:])).tolist() == [[1, 1, 0, 0, 0]]


@pytest.mark.parametrize(
    "text", ["```\n" * 50_000, "**" * 100_000, "* " * 100_000, "__a" * 70_000, "~~~\n```\n" * 25_000]
)
def test_no_text_takes_long(text):
    started = time.process_time()
    features_of(text)
    assert time.process_time() - started < 1
