import pytest

from rewardmodel.evaluation import slices


def test_accuracy_by_label_by_hand() -> None:
    """a: right and wrong, 1/2; b: a tie, 1/2 of one; no label: left out."""
    rows = slices.accuracy_by(["a", "b", "a", None], margins=[1.0, 0.0, -1.0, 5.0], order=["b", "a", "c"])
    assert [(row["label"], row["n"], row["accuracy"]) for row in rows] == [("b", 1, 0.5), ("a", 2, 0.5)]


def test_bands_of_the_margin_hold_about_equally_many() -> None:
    labels, order = slices.label_margins([float(i) for i in range(-50, 50)])
    assert len(order) == 5
    assert {labels.count(name) for name in order} <= {19, 20, 21}
    assert labels[0] == order[-1]


def test_lengths_fall_into_bands_of_their_ratio() -> None:
    """Ratios (c + 1) / (r + 1): 1/10, 10/10, 100/10."""
    labels, _ = slices.label_lengths([(0, 9), (9, 9), (99, 9)])
    assert labels == ["chosen shorter than 1/2", "about equal (within 0.9)", "chosen over 2 times"]


def test_strengths_lose_their_sign_and_true_is_none() -> None:
    labels, order = slices.label_strengths([-2, 3, None, True])
    assert labels == ["2 (better)", "3 (much better)", None, None]
    assert order == ["2 (better)", "3 (much better)"]


def test_agreement_is_counted_over_judgements_of_the_same_two_responses() -> None:
    """Three say x > y and one y > x: share 3/4, and no model can please more than 3 of 4. Judged once: unknown.

    With the pair judged once, 3 + 1 of 5 rows: ceiling 0.8."""
    sides = [("p", "x", "y")] * 3 + [("p", "y", "x"), ("q", "x", "y")]
    shares, ceiling = slices.count_agreement(sides)
    assert shares == [0.75, 0.75, 0.75, 0.75, None]
    assert ceiling == 0.8
    assert slices.label_agreement(shares)[0] == ["over 1/2 to 3/4"] * 4 + [None]


def test_what_was_judged_once_has_no_agreement() -> None:
    assert slices.count_agreement([("p", "x", "y"), ("p", "x", "z")]) == ([None, None], None)


def test_a_column_of_words_is_ordered_by_frequency_and_its_tail_put_together() -> None:
    values = ["b"] * 3 + ["a"] * 5 + [None] + [f"rare {i}" for i in range(30)]
    labels, order = slices.label_column(values)
    assert order[:2] == ["a", "b"]
    assert labels.count(slices.OTHERS) == 30 - 17
    assert labels[8] == slices.NOT_GIVEN


def test_a_column_of_few_numbers_keeps_them_in_order() -> None:
    assert slices.label_column([10, 2, 10, None])[1] == ["2", "10", slices.NOT_GIVEN, slices.OTHERS]


def test_a_column_of_many_numbers_is_cut_into_bands() -> None:
    labels, order = slices.label_column([*range(100), None])
    assert len(order) == 6
    assert labels[-1] == slices.NOT_GIVEN
    assert {labels.count(name) for name in order[:-1]} == {20}


def test_a_list_is_no_label() -> None:
    with pytest.raises(ValueError, match="a list is no label"):
        slices.label_column([["x"]])
