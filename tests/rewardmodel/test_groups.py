"""Groups, steps and rows from pairs of token ids."""

from dataclasses import replace

import pytest

from rewardmodel.chat import EncodedPair
from rewardmodel.data import Pair
from rewardmodel.groups import Group, gather_groups, gather_single_pairs, keep_orders, plan_rows, plan_steps


def encoded(
    chosen: list[int], rejected: list[int], *, prompt: str = "p", group: str = "g", tied: bool = False
) -> EncodedPair:
    pair = Pair([], [], [], prompt, None, 1, tied=tied, group_id=group)
    return EncodedPair(pair, [1, 2, 3], chosen, rejected)


A, B, C = [4, 5], [4, 6, 7], [8]
RANKING = [encoded(A, B), encoded(A, C), encoded(B, C)]


def test_each_response_of_a_prompt_stands_once_and_its_pairs_point_to_it() -> None:
    """Three responses behind a prompt of 3: 3 + 2 + 3 + 1 tokens when the prompt is read once, 15 apart."""
    (group,) = gather_groups(RANKING)
    assert group.sequences == [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6, 7], [1, 2, 3, 8]]
    assert [(edge.better, edge.worse) for edge in group.edges] == [(0, 1), (0, 2), (1, 2)]
    assert (group.shared, group.tokens, group.separate_tokens) == (3, 9, 15)


def test_what_two_responses_begin_alike_is_shared_too_but_no_whole_response() -> None:
    assert gather_groups([encoded(A, B)])[0].shared == 4
    assert gather_groups([encoded([4], [4, 5])])[0].shared == 3


def test_prompts_part_groups_and_annotators_do_not() -> None:
    pairs = [encoded(A, B, group="first"), encoded(B, A, group="second"), encoded(A, B, prompt="q")]
    assert [(group.prompt_id, group.pairs) for group in gather_groups(pairs)] == [("p", 2), ("q", 1)]
    assert [group.pairs for group in gather_single_pairs(pairs)] == [1, 1, 1]


def test_a_prompt_too_large_to_read_at_once_gives_several_groups_with_all_its_pairs() -> None:
    groups = gather_groups(RANKING, most_tokens=11)
    assert [group.pairs for group in groups] == [1, 1, 1]
    assert all(len(group.sequences) == 2 for group in groups)


def test_orders_are_read_judgement_by_judgement() -> None:
    """Two annotators' orders of one prompt: a > b > c and c > a; a tie, or a pair left out, leaves none."""
    pairs = [*RANKING, encoded(C, A, group="h"), encoded(A, B, group="tie", tied=True)]
    groups, dropped = keep_orders(gather_groups(pairs), pairs=pairs)
    assert groups[0].orders == [([0, 1, 2], 3.0), ([2, 0], 1.0)]
    assert dropped == 1
    assert keep_orders(gather_groups(RANKING[:2]), pairs=RANKING[:2]) == ([], 1)


def many(n: int, *, pairs: int = 1) -> list[Group]:
    (group,) = gather_groups(RANKING[:pairs])
    return [replace(group, prompt_id=str(i)) for i in range(n)]


def test_every_epoch_takes_every_group_once_in_an_order_of_its_own() -> None:
    steps = plan_steps(many(7), pairs_a_step=3, epochs=2, max_steps=None, seed=0)
    assert [len(step) for step in steps] == [3, 3, 1, 3, 3, 1]
    first, second = ([index for step in half for index in step] for half in (steps[:3], steps[3:]))
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second
    assert steps == plan_steps(many(7), pairs_a_step=3, epochs=2, max_steps=None, seed=0)


def test_a_group_is_never_parted_by_a_step() -> None:
    """Three pairs each: two groups fit seven, and one alone is taken where none would fit."""
    groups = many(4, pairs=3)
    assert [len(s) for s in plan_steps(groups, pairs_a_step=7, epochs=1, max_steps=None, seed=0)] == [2, 2]
    assert [len(s) for s in plan_steps(groups, pairs_a_step=2, epochs=1, max_steps=None, seed=0)] == [1] * 4


@pytest.mark.parametrize(("epochs", "max_steps", "steps"), [(1.5, None, 6), (0.1, None, 1), (1, 9, 9), (5, 2, 2)])
def test_steps_follow_epochs_or_their_own_number(epochs: float, max_steps: int | None, steps: int) -> None:
    """Four steps an epoch."""
    made = plan_steps(many(8), pairs_a_step=2, epochs=epochs, max_steps=max_steps, seed=0)
    assert len(made) == steps


def test_steps_can_be_of_equal_work() -> None:
    """A pair has 4 + 1 + 2 = 7 tokens with its shared beginning once, 5 + 6 = 11 apart; 22 hold three or two."""
    groups = many(6)
    assert (groups[0].tokens, groups[0].separate_tokens) == (7, 11)
    assert [
        len(plan_steps(groups, pairs_a_step=1, tokens_a_step=22, shared=shared, epochs=1, max_steps=None, seed=0))
        for shared in (True, False)
    ] == [2, 3]


def test_rows_hold_everything_once_within_the_budget() -> None:
    groups = many(5) + many(2, pairs=3)
    for packed in (True, False):
        rows = plan_rows(groups, tokens=20, packed=packed, share=True)
        assert sorted(index for row in rows for index in row) == list(range(7))
        for row in rows:
            size = sum(groups[i].tokens for i in row)
            if not packed:
                longest = max(len(ids) for i in row for ids in groups[i].sequences)
                size = longest * sum(len(groups[i].sequences) for i in row)
            assert size <= 20


def test_a_group_above_the_budget_goes_alone() -> None:
    assert plan_rows(many(2), tokens=3, packed=True, share=True) == [[0], [1]]
