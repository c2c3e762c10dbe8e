import pytest

from rewardmodel.rankings import comparisons_of, strict_order


def test_ranks_give_strict_pairs_and_ties() -> None:
    """Ranks 2, 1, 2 of a, b, c: b beats both, a ties c."""
    assert comparisons_of([2, 1, 2]) == ([(1, 0), (1, 2)], [(0, 2)])


def test_what_a_partial_task_leaves_level_was_not_judged() -> None:
    """Best of four: winner against the rest. Best-worst: those, and all against the worst; not the middle."""
    assert comparisons_of([2, 1, 2, 2], task="best") == ([(1, 0), (1, 2), (1, 3)], [])
    strict, tied = comparisons_of([2, 1, 4, 2], task="best-worst")
    assert (strict, tied) == ([(1, 0), (0, 2), (1, 2), (1, 3), (3, 2)], [])


@pytest.mark.parametrize(
    ("pairs", "order"),
    [
        ([(1, 0), (1, 2), (0, 2)], [1, 0, 2]),
        ([(1, 0), (1, 2)], None),
        ([(0, 1), (1, 2), (2, 0)], None),
        ([(0, 1), (1, 0), (1, 2)], None),
    ],
)
def test_an_order_is_read_only_from_a_complete_one(pairs: list[tuple[int, int]], order: list[int] | None) -> None:
    assert strict_order(3, pairs=pairs) == order
