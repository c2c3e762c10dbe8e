"""`manage.py agreement`: its contract, simulated annotators named so, and real judgements beside published figures."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from annotation.agreement import measure_agreement, measure_alpha
from annotation.domain.assigning import claim_slot
from annotation.domain.importing import ImportFile, import_files
from annotation.domain.judgement import Judgement
from annotation.domain.projects import create_project
from annotation.domain.ranking import amend_ranking, submit_ranking
from annotation.domain.simulating import simulate_annotators
from annotation.models import Project
from annotation.queries import project_overview
from tests.annotation.factories import make_member, make_project, make_slate

DATA = Path(__file__).parents[2].parent / "shared" / "data"

pytestmark = pytest.mark.django_db
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the prepared data is not there: {DATA}")


def run(project: Project, *arguments: str) -> str:
    out = StringIO()
    call_command("agreement", "--project", project.slug, *arguments, stdout=out)
    return out.getvalue()


def run_json(project: Project, *arguments: str) -> dict:
    return json.loads(run(project, "--json", *arguments).splitlines()[-1])


def rank(annotator, tiers, **said):
    return submit_ranking(
        annotator, token=claim_slot(annotator).token, judgement=Judgement(tiers=tiers, **said)
    ).ranking


def in_ids(ranking, ids):
    """Positions on screen by which the responses come in the order of these ids."""
    return [[ranking.index(pk)] for pk in ids]


def rank_by_id(annotator, *, reverse=False, swap=False):
    """The annotator's next slate, by response id: ascending, descending, or ascending with the last two swapped."""
    lease = claim_slot(annotator)
    ids = sorted(lease.presented_order, reverse=reverse)
    if swap:
        ids[-2:] = ids[:-3:-1]
    tiers = in_ids(lease.presented_order, ids)
    return submit_ranking(annotator, token=lease.token, judgement=Judgement(tiers=tiers)).ranking


@pytest.fixture
def two_annotators(db) -> Project:
    """Two slates of three. On the first both say ABC; on the second one says CBA, the other ABC."""
    project = make_project(overlap=2, slate_size=3)
    for _slate in range(2):
        make_slate(project, count=3)
    ann, ben = make_member(project, name="ann"), make_member(project, name="ben")
    rank_by_id(ann)
    rank_by_id(ann, reverse=True)
    rank_by_id(ben)
    rank_by_id(ben)
    return project


def test_the_contract_by_hand(two_annotators):
    """Six units. Units 1 to 3: both +1; 4 to 6: -1 and +1. n = 12, nine +1, three -1.

    D_o = 6 off the diagonal of 12; D_e = 2 · 9 · 3 = 54 of 12 · 11; α = 1 - 11 · 6 / 54 = -0.2222. Three of six pairs
    of judgements are the same. τ-b 1 and -1, mean 0; W 1 and 0, mean 1/2.
    """
    found = run_json(two_annotators)
    alpha = found["krippendorff_alpha"]
    assert set(alpha) == {"nominal", "ordinal", "interval", "exchangeable", "ranks"}
    assert alpha["nominal"]["value"] == pytest.approx(-2 / 9)
    low, high = alpha["nominal"]["interval"]
    assert low < -2 / 9
    assert high == pytest.approx(-2 / 9)  # a sample of the first slate alone has nothing to expect by chance
    assert (alpha["nominal"]["n_units"], alpha["nominal"]["n_raters"], alpha["nominal"]["n_values"]) == (6, 2, 12)
    assert found["percent_agreement"]["value"] == 0.5
    assert found["kendall_tau_b"]["value"] == pytest.approx(0)
    assert found["kendall_w"]["value"] == pytest.approx(0.5)
    assert found["intransitivity"] == {
        "majority": {
            "value": 0.0, "interval": [None, None], "confidence": 0.95, "n_units": 1, "n_raters": None, "n_values": 12,
        },
        "within_annotator": None,
    }  # fmt: skip
    assert {name: found[name] for name in ("rankings", "simulated", "annotators", "slates", "slates_shared")} == {
        "rankings": 4, "simulated": 0, "annotators": 2, "slates": 2, "slates_shared": 2,
    }  # fmt: skip
    (pair,) = found["cohen_kappa"]["pairs"]
    assert (pair["annotators"], pair["percent_agreement"]) == (["ann", "ben"], 0.5)
    assert pair["value"] == pytest.approx(0)  # 3 of 6 the same; ben always says +1, so that chance alone gives as much


def test_an_amendment_takes_the_place_of_what_it_amends(two_annotators):
    wrong = two_annotators.memberships.get(name="ann").rankings.last()
    order = wrong.presented_order
    amended = Judgement(tiers=in_ids(order, sorted(order)))
    amend_ranking(wrong.annotator, ranking=wrong, judgement=amended)
    found = run_json(two_annotators)
    assert found["percent_agreement"]["value"] == 1
    assert found["krippendorff_alpha"]["nominal"]["value"] is None
    assert "All values are the same" in found["krippendorff_alpha"]["nominal"]["undefined"]
    assert found["krippendorff_alpha"]["exchangeable"]["value"] == 1  # nobody knew which response is listed first
    assert found["krippendorff_alpha"]["ranks"]["value"] == 1


def test_the_figure_of_the_project_page_is_the_same(two_annotators):
    report = measure_agreement(two_annotators)
    overview = project_overview(two_annotators)["pairwise_agreement"]
    assert report.percent is not None
    assert report.percent.value == overview["value"]
    assert measure_alpha(two_annotators, newest_slates=100) == report.alpha["exchangeable"]


def test_simulated_annotators_are_said_to_be_so_and_can_be_left_out():
    project = make_project(overlap=3)
    for _slate in range(4):
        make_slate(project)
    simulate_annotators(project, names=["s1", "s2"], seed=1)
    rank(make_member(project), [[0], [1], [2], [3]])
    assert run_json(project)["simulated"] == 8
    assert "9 judgements, 8 of them simulated, by 3 annotators" in run(project)
    people = run_json(project, "--annotator-kind", "person")
    assert (people["rankings"], people["simulated"], people["slates_shared"]) == (1, 0, 0)
    assert people["krippendorff_alpha"]["nominal"]["value"] is None


def test_a_project_without_judgements_has_no_measures():
    found = run_json(make_project())
    assert found["krippendorff_alpha"] == {}
    assert found["percent_agreement"] is None
    assert found["cohen_kappa"] == {"pairs": [], "annotators_left_out": 0}
    assert run(make_project()).startswith("0 judgements")


def test_the_seed_and_the_resamples_are_asked_for(two_annotators):
    one, same, other = (run_json(two_annotators, "--seed", seed) for seed in ("1", "1", "2"))
    assert one == same
    assert one["krippendorff_alpha"]["ranks"]["value"] == other["krippendorff_alpha"]["ranks"]["value"]
    none = run_json(two_annotators, "--resamples", "0")
    assert none["krippendorff_alpha"]["nominal"]["interval"] == [None, None]
    assert "no interval" in run(two_annotators, "--resamples", "0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--project", "nowhere"], "There is no project 'nowhere'"),
        (["--project", "p", "--resamples", "-3"], "not a whole number"),
        (["--project", "p", "--annotator-kind", "robot"], "invalid choice"),
        ([], "--project"),
    ],
)
def test_what_cannot_be_is_refused(arguments, said):
    make_project(slug="p")
    with pytest.raises(CommandError, match=said):
        call_command("agreement", *arguments)


def import_real(folder: str, *names: str) -> Project:
    project = create_project(slug=f"p-{uuid4().hex[:6]}", name=folder, guidelines="Be fair.")
    import_files(project, files=[ImportFile(f"{name}.jsonl", DATA / folder / f"{name}.jsonl") for name in names])
    return project


@needs_data
def test_pandalm_annotators_agree_as_published():
    """Its README gives Cohen's κ of 0.85, 0.88 and 0.86 for annotators 1-2, 1-3 and 2-3."""
    found = run_json(import_real("pandalm_pairs", "annotations", "items"))
    assert [(pair["annotators"], round(pair["value"], 2)) for pair in found["cohen_kappa"]["pairs"]] == [
        (["annotator1", "annotator2"], 0.85),
        (["annotator1", "annotator3"], 0.88),
        (["annotator2", "annotator3"], 0.86),
    ]
    assert found["krippendorff_alpha"]["nominal"]["value"] == pytest.approx(found["fleiss_kappa"]["value"], abs=1e-3)
    low, high = found["krippendorff_alpha"]["nominal"]["interval"]
    assert low < found["krippendorff_alpha"]["nominal"]["value"] < high


@needs_data
def test_ukp_thousands_of_annotators_share_few_pairs_each():
    found = run_json(import_real("ukp_convarg", "annotations", "items", "arguments", "topics"), "--resamples", "200")
    assert (found["annotators"], found["slates_shared"], found["rankings"]) == (2753, 3775, 18835)
    assert found["krippendorff_alpha"]["nominal"]["n_units"] == 3775
    assert 0 < found["krippendorff_alpha"]["nominal"]["value"] < found["krippendorff_alpha"]["ordinal"]["value"] < 1
    cycles = found["intransitivity"]
    assert 0 < cycles["majority"]["value"] < 0.1
    assert 0 < cycles["within_annotator"]["value"] < 0.1
    assert found["cohen_kappa"]["annotators_left_out"] == 2745


@needs_data
def test_rankme_has_each_criterion_by_itself():
    found = run_json(import_real("rankme_k3", "items", "annotations"), "--resamples", "200")
    assert list(found["criteria"]) == ["informativeness", "naturalness", "quality"]
    assert found["criteria"]["informativeness"]["value"] > 0.4 > 0.2 > found["criteria"]["naturalness"]["value"]
    assert set(found["ratings"]["quality"]) == {"nominal", "ordinal", "interval", "ratio"}


@needs_data
def test_squality_where_the_listed_order_gives_the_winner_away():
    """The human summary is always listed in the same place and wins 294 of 300: nominal α takes that for chance."""
    alpha = run_json(import_real("squality_k3", "items", "annotations"), "--resamples", "0")["krippendorff_alpha"]
    assert alpha["nominal"]["value"] < 0.5 < 0.7 < alpha["exchangeable"]["value"]
