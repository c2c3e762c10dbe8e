"""Measures of agreement against published values to the printed digits, by hand, and by what must always hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from annotation.statistics import agreement
from annotation.statistics.agreement import (
    ReliabilityData,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    percent_agreement,
)

NAN = math.nan
LEVELS = ("nominal", "ordinal", "interval", "ratio")

FOUR_OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T
"""Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section D: 12 units, 4 observers."""

PSYCHIATRISTS = np.array(
    [int(digit) for digit in (
        "00060" "03003" "01401" "00006" "03030" "20400" "00402" "20310" "20040" "00006"
        "10050" "11040" "03300" "10050" "02031" "00501" "30012" "51000" "02040" "10203"
        "00006" "01050" "02013" "20040" "10041" "05010" "40002" "02040" "10500" "00006"
    )]
).reshape(30, 5)  # fmt: skip
"""Fleiss 1971, "Measuring nominal scale agreement among many raters", table 1: 30 patients, 6 diagnoses each."""

FOURTEEN_RATERS = np.array(
    [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]
)  # fmt: skip
"""The worked example of the encyclopedias' article on Fleiss' kappa: 10 subjects, 14 raters."""


def two_raters(table: list[list[int]]) -> np.ndarray:
    """A row a unit and two columns, of which `table` counts the cells."""
    return np.array([(i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)])


@pytest.mark.parametrize(
    ("level", "printed"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
@pytest.mark.parametrize("few_values", [32, 0])
def test_krippendorffs_four_observers(monkeypatch, level, printed, few_values):
    monkeypatch.setattr(agreement, "FEW_VALUES", few_values)
    found = krippendorff_alpha(FOUR_OBSERVERS, level=level)
    assert round(found.value, 3) == printed
    assert (found.n_units, found.n_raters, found.n_values) == (11, 4, 40)
    assert found.interval[0] < found.value < found.interval[1]


def test_krippendorffs_two_observers_and_ten_binary_units():
    """Section A of the same paper."""
    first, second = (0, 1, 0, 0, 0, 0, 0, 0, 1, 0), (1, 1, 1, 0, 0, 1, 0, 0, 0, 0)
    assert round(krippendorff_alpha(np.array([first, second]).T).value, 3) == 0.095


def test_krippendorffs_two_observers_and_five_categories_as_texts():
    """Section B of the same paper."""
    data = np.array([list("aabbdcccedda"), list("babbbccceddd")]).T
    assert round(krippendorff_alpha(data).value, 3) == 0.692


def test_fleiss_psychiatrists():
    data = ReliabilityData.from_counts(PSYCHIATRISTS)
    found = fleiss_kappa(data)
    assert round(found.value, 3) == 0.430
    assert (found.n_units, found.n_raters, found.n_values) == (30, None, 180)


def test_fleiss_fourteen_raters():
    assert round(fleiss_kappa(ReliabilityData.from_counts(FOURTEEN_RATERS)).value, 3) == 0.210


@pytest.mark.parametrize(
    ("table", "printed", "digits"),
    [
        ([[50, 26, 24], [24, 4, 32], [6, 30, 4]], -0.09, 2),  # Cohen 1960, table 1
        ([[106, 10, 4], [22, 28, 10], [2, 12, 6]], 0.429, 3),  # Fleiss, Cohen and Everitt 1969, table 1
        ([[75, 1, 4], [5, 4, 1], [0, 0, 10]], 0.68, 2),  # Fleiss 1981, "Statistical Methods for Rates", table 13.1
        ([[20, 5], [10, 15]], 0.4, 4),
        ([[45, 15], [25, 15]], 0.1304, 4),
        ([[25, 35], [5, 35]], 0.2593, 4),
    ],
)
def test_cohens_kappa_as_printed(table, printed, digits):
    assert round(cohen_kappa(two_raters(table), resamples=0).value, digits) == printed


def test_weighted_kappa_by_hand():
    """Two raters, three units: (1, 1), (1, 3), (3, 2). |a - b|: 0, 2, 1, sum 3.

    Expected: each of 1, 1, 3 against each of 1, 3, 2: (0 + 2 + 1) + (0 + 2 + 1) + (2 + 0 + 1) = 9, over 3 is 3; linear
    κ = 1 - 3 / 3 = 0. Squares: 0 + 4 + 1 = 5 against (0 + 4 + 1) + (0 + 4 + 1) + (4 + 0 + 1) = 15, over 3 is 5: κ = 0.
    """
    data = [[1, 1], [1, 3], [3, 2]]
    assert cohen_kappa(data, weights="linear", resamples=0).value == pytest.approx(0)
    assert cohen_kappa(data, weights="quadratic", resamples=0).value == pytest.approx(0)
    assert cohen_kappa(data, resamples=0).value == pytest.approx(0)  # 1 of 3 agree, as by chance (2·1 + 1·1) / 9


def test_two_raters_are_chosen_among_many():
    alone = cohen_kappa(FOUR_OBSERVERS[:, [3, 1]], seed=2)
    assert cohen_kappa(FOUR_OBSERVERS, raters=(3, 1), seed=2) == alone
    assert alone.n_units == 10


def test_percent_agreement_by_hand():
    """Unit 1: of three pairs one agrees. Unit 2: its one pair agrees. Unit 3 has no pair. 2 of 4."""
    found = percent_agreement([[1, 1, 2], [3, 3, NAN], [5, NAN, NAN]])
    assert found.value == 0.5
    assert (found.n_units, found.n_values) == (2, 5)


def test_fleiss_with_unequal_numbers_by_hand():
    """Units (a, a, b) and (a, b): agreement 1/3 and 0, mean 1/6. Shares of a: 2/3 and 1/2, mean 7/12; of b 5/12.

    Chance 49/144 + 25/144 = 74/144; κ = (24 - 74) / (144 - 74) = -5/7.
    """
    assert fleiss_kappa([[0, 0, 1], [0, 1, NAN]]).value == pytest.approx(-5 / 7)


tables = arrays.arrays(
    np.float64, st.tuples(st.integers(2, 12), st.integers(2, 4)), elements=st.sampled_from([0, 1, 2, 5, NAN])
)


@settings(deadline=None, max_examples=60)
@given(table=tables, level=st.sampled_from(LEVELS), seed=st.integers(0, 9))
def test_nothing_depends_on_the_names_of_raters_or_the_order_of_units(table, level, seed):
    rng = np.random.default_rng(seed)
    turned = table[rng.permutation(len(table))][:, rng.permutation(table.shape[1])]
    for measure in (
        lambda t: krippendorff_alpha(t, level=level, resamples=0),
        lambda t: percent_agreement(t, resamples=0),
        lambda t: fleiss_kappa(t, resamples=0),
    ):
        assert measure(turned).value == pytest.approx(measure(table).value, nan_ok=True, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(table=tables, level=st.sampled_from(LEVELS))
def test_units_twice_are_the_same_agreement(table, level):
    """α = 1 - (n - 1) Σ o δ / Σ n n δ: with all counts twice, 1 - α is multiplied by (2 n - 1) / (2 (n - 1))."""
    twice = np.concatenate([table, table])
    alpha = krippendorff_alpha(table, level=level, resamples=0)
    factor = (2 * alpha.n_values - 1) / (2 * (alpha.n_values - 1)) if alpha.n_values > 1 else NAN
    found = krippendorff_alpha(twice, level=level, resamples=0).value
    assert 1 - found == pytest.approx(factor * (1 - alpha.value), nan_ok=True, abs=1e-12)
    for measure in (percent_agreement, fleiss_kappa):
        once = measure(table, resamples=0).value
        assert measure(twice, resamples=0).value == pytest.approx(once, nan_ok=True, abs=1e-12)
    first, second = table[:, :2], twice[:, :2]
    once = cohen_kappa(first, resamples=0).value
    assert cohen_kappa(second, resamples=0).value == pytest.approx(once, nan_ok=True, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(table=tables, level=st.sampled_from(LEVELS))
def test_many_values_are_counted_as_few_are(table, level):
    with pytest.MonkeyPatch.context() as patch:
        few = krippendorff_alpha(table, level=level, resamples=0)
        patch.setattr(agreement, "FEW_VALUES", 0)
        many = krippendorff_alpha(table, level=level, resamples=0)
    assert many.value == pytest.approx(few.value, nan_ok=True, abs=1e-12)
    assert (many.n_units, many.n_values) == (few.n_units, few.n_values)


def test_the_package_krippendorff_says_the_same():
    """Where it is installed (it is no dependency): random tables with gaps, to 1e-9."""
    peer = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(0)
    for _table in range(40):
        units, raters, values = rng.integers(2, 40), rng.integers(2, 6), rng.integers(2, 60)
        table = rng.integers(0, values, (units, raters)) * 0.5
        table[rng.random(table.shape) < 0.3] = NAN
        for level in LEVELS:
            try:
                theirs = peer.alpha(table.T, level_of_measurement=level)
            except ValueError:  # there is no pair, or nothing varies
                continue
            assert krippendorff_alpha(table, level=level, resamples=0).value == pytest.approx(
                theirs, abs=1e-9, nan_ok=True
            )


@pytest.mark.parametrize("few_values", [32, 0])
@pytest.mark.parametrize("level", LEVELS)
def test_full_agreement_is_one_and_certain(monkeypatch, level, few_values):
    monkeypatch.setattr(agreement, "FEW_VALUES", few_values)
    table = np.repeat([[1], [2], [3], [2]] * 5, 3, axis=1)
    found = krippendorff_alpha(table, level=level)
    assert found.value == pytest.approx(1)
    assert found.interval == pytest.approx((1, 1))
    assert cohen_kappa(table[:, :2]).value == fleiss_kappa(table).value == percent_agreement(table).value == 1


def test_systematic_disagreement_is_below_chance():
    """Values 0, 1 and 1, 0 in turn: o = all off the diagonal; α = 1 - (2 U - 1) · 2 U / (2 U²) = -1 + 1 / U."""
    assert krippendorff_alpha([[0, 1], [1, 0]] * 5).value == pytest.approx(-0.9)
    assert cohen_kappa([[0, 1], [1, 0]] * 5).value == pytest.approx(-1)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("clusters", [None, np.arange(60) // 3])
def test_both_ways_draw_the_same_interval(monkeypatch, level, clusters):
    """Few values are drawn by kinds of units, many unit by unit: other random numbers, the same distribution."""
    rng = np.random.default_rng(5)
    table = rng.integers(1, 6, (60, 4)).astype(float)
    table[:, 1] = np.where(rng.random(60) < 0.6, table[:, 0], table[:, 1])
    table[rng.random(table.shape) < 0.2] = NAN
    data = ReliabilityData.from_table(table, clusters=clusters)
    few = krippendorff_alpha(data, level=level, resamples=3000).interval
    monkeypatch.setattr(agreement, "FEW_VALUES", 0)
    assert krippendorff_alpha(data, level=level, resamples=3000).interval == pytest.approx(few, abs=0.02)


def test_intervals_of_percent_agreement_cover():
    """300 samples of 120 units of two raters who agree on 70 %; the sum of misses is binomial, 15 ± 3.8."""
    rng = np.random.default_rng(11)
    covered = 0
    for _sample in range(300):
        first = rng.integers(0, 2, 120)
        second = np.where(rng.random(120) < 0.7, first, 1 - first)
        low, high = percent_agreement(np.stack([first, second], axis=1), resamples=400).interval
        covered += low <= 0.7 <= high
    assert 0.91 <= covered / 300 <= 0.985


def test_intervals_by_cluster_are_wider_where_units_go_together():
    """Ten copies of each unit are one unit's worth of evidence: √10 times the width."""
    rng = np.random.default_rng(3)
    first = rng.integers(0, 3, 100)
    table = np.stack([first, np.where(rng.random(100) < 0.6, first, rng.integers(0, 3, 100))], axis=1)
    copies, clusters = np.repeat(table, 10, axis=0), np.repeat(np.arange(100), 10)
    for measure in (krippendorff_alpha, percent_agreement, fleiss_kappa, cohen_kappa):
        once, tenfold = measure(table), measure(ReliabilityData.from_table(copies, clusters=clusters))
        apart = measure(copies)
        assert np.ptp(tenfold.interval) == pytest.approx(np.ptp(once.interval), rel=0.1)
        assert np.ptp(apart.interval) == pytest.approx(np.ptp(once.interval) / math.sqrt(10), rel=0.15)


def test_the_seed_decides_and_no_resamples_no_interval():
    one, same, other = (krippendorff_alpha(FOUR_OBSERVERS, seed=seed) for seed in (1, 1, 2))
    assert one == same != other
    assert all(math.isnan(bound) for bound in krippendorff_alpha(FOUR_OBSERVERS, resamples=0).interval)
    wide, narrow = (krippendorff_alpha(FOUR_OBSERVERS, confidence=confidence).interval for confidence in (0.99, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


@pytest.mark.parametrize("measure", [krippendorff_alpha, fleiss_kappa, cohen_kappa])
def test_what_cannot_be_said_is_nan_with_the_reason(measure):
    nobody_twice = measure([[1, NAN], [NAN, 2]])
    assert math.isnan(nobody_twice.value)
    assert nobody_twice.undefined in (agreement.NO_PAIR, agreement.NO_SHARED_UNIT)
    all_the_same = measure([[1, 1], [1, 1]])
    assert math.isnan(all_the_same.value)
    assert all_the_same.undefined == agreement.NO_VARIATION
    assert all_the_same.as_json() == {
        "value": None, "interval": [None, None], "confidence": 0.95, "n_units": 2, "n_raters": 2, "n_values": 4,
        "undefined": agreement.NO_VARIATION,
    }  # fmt: skip


def test_percent_agreement_of_all_the_same_is_one():
    assert percent_agreement([[1, 1], [1, 1]]).value == 1
    assert percent_agreement([[1, NAN], [NAN, 2]]).undefined == agreement.NO_PAIR


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: krippendorff_alpha([[1, 2]], level="cardinal"), "Unknown level 'cardinal'"),
        (lambda: krippendorff_alpha([["a", "b"]], level="ordinal"), "Texts have no ordinal level"),
        (lambda: krippendorff_alpha([[-1, 2]], level="ratio"), "cannot be negative"),
        (lambda: krippendorff_alpha([[1, 2]], resamples=-1), "-1 resamples"),
        (lambda: krippendorff_alpha([[1, 2]], confidence=95), "between 0 and 1"),
        (lambda: cohen_kappa([[1, 2, 3]]), "there are 3"),
        (lambda: cohen_kappa([[1, 2, 3]], raters=(0, 3)), "counted from 0"),
        (lambda: cohen_kappa([[1, 2]], weights="cubic"), "Unknown weights"),
        (lambda: cohen_kappa([["a", "b"]], weights="linear"), "no distance"),
        (lambda: cohen_kappa(ReliabilityData.from_counts([[1, 1]])), "who gave which value"),
        (lambda: fleiss_kappa(np.arange(4000).reshape(2, -1)), "4000 different values"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, said):
    with pytest.raises(ValueError, match=said):
        call()
