"""Heads on cached features, and how sure they are: against scipy, by hand in two dimensions, and by simulation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.optimize import minimize

from rewardmodel.contract import RewardSpec, SpecError, parse_spec
from rewardmodel.groups import Edge, Group
from rewardmodel.jobs import run_job
from rewardmodel.rundir import RunDir, read_json_lines
from rewardmodel.train.heads import HeadProblem, fit_ensemble, fit_head, fit_laplace, solve
from rewardmodel.uncertainty import Spread, find_spread, probability_better
from tests.rewardmodel.test_train_reward import build_rankings
from tests.rewardmodel.tiny import write_rows

MakeSpec = Callable[..., dict[str, Any]]


def simulate(n: int, *, width: int, seed: int, scale: float = 1.0) -> tuple[list[Group], torch.Tensor, np.ndarray]:
    """n pairs of Gaussian states judged by Bradley-Terry, the states (2 n, width), and the true weights."""
    generator = np.random.default_rng(seed)
    truth = scale * generator.normal(size=width) / math.sqrt(width)
    states = generator.normal(size=(n, 2, width))
    leads = (states[:, 0] - states[:, 1]) @ truth
    first = generator.random(n) < 1 / (1 + np.exp(-leads))
    groups = [Group(f"p{i}", [[1], [2]], 0, 0, [Edge(0, 1) if won else Edge(1, 0)], []) for i, won in enumerate(first)]
    return groups, torch.tensor(states.reshape(2 * n, width)), truth


@pytest.mark.parametrize(
    ("loss", "changes"),
    [("bradley-terry", {}), ("bradley-terry", {"label_smoothing": 0.1}), ("plackett-luce", {})],
)
def test_the_head_is_scipys_optimum_of_the_same_objective(loss: str, changes: dict[str, Any]) -> None:
    """sum of -(1 - e) log sigmoid(d) - e log sigmoid(-d) + prior/2 |w|^2 on standardised states (to 1e-5). Plackett-
    Luce of two is Bradley-Terry."""
    groups, states, _ = simulate(60, width=4, seed=3)
    if loss == "plackett-luce":
        groups = [
            Group(g.prompt_id, g.sequences, 0, 0, g.edges, [([g.edges[0].better, g.edges[0].worse], 1.0)])
            for g in groups
        ]
    problem = HeadProblem(RewardSpec(data="-", loss=loss, tuning="head", **changes), groups=groups, states=states)
    found, _, _ = solve(problem, prior=2.0)
    x = ((states - states.mean(0)) / states.std(0)).numpy()
    d = np.stack([x[2 * i + g.edges[0].better] - x[2 * i + g.edges[0].worse] for i, g in enumerate(groups)])
    e = changes.get("label_smoothing", 0.0)

    def objective(w: np.ndarray) -> float:
        return float(
            ((1 - e) * np.log1p(np.exp(-d @ w)) + e * np.log1p(np.exp(d @ w))).sum() + w @ w  # 2/2 |w|^2
        )

    theirs = minimize(objective, np.zeros(4), tol=1e-12).x
    assert found.numpy() == pytest.approx(theirs, abs=1e-5)


def test_the_curvature_is_that_of_differences_by_hand() -> None:
    """One pair at lead 0: p (1 - p) = 1/4 of the outer product of the difference, for pairs and for orders of two."""
    states = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    edges = [Edge(0, 1)]
    group = Group("p", [[1], [2]], 0, 0, edges, [([0, 1], 1.0)])
    for loss in ("bradley-terry", "plackett-luce", "davidson"):
        spec = RewardSpec(data="-", loss=loss, tuning="head", **({"tie_strength": 0.0} if loss == "davidson" else {}))
        problem = HeadProblem(spec, groups=[group], states=states[:2])
        difference = problem.states[0] - problem.states[1]
        expected = torch.outer(difference, difference) / 4
        assert torch.allclose(problem.curve(torch.zeros(2, dtype=torch.float64)), expected), loss


def test_the_likeliest_prior_is_near_the_one_that_made_the_data() -> None:
    """500 pairs, 20 weights of variance 1/20: the likeliest prior is within a factor 4 of 20."""
    groups, states, _ = simulate(500, width=20, seed=1)
    problem = HeadProblem(RewardSpec(data="-", tuning="head"), groups=groups, states=states)
    tried: list[float] = []
    best = fit_head(problem, prior=None, report=lambda solution: tried.append(solution.prior))
    assert 5 <= best.prior <= 80
    assert len(tried) > 5
    _, again = fit_laplace(problem, weights=problem.unscale(best.weights), prior=None)
    assert 5 <= again <= 80


def test_far_from_the_data_one_is_less_sure() -> None:
    """Two features; data differ along the first alone. The second's weight keeps its prior: std = distance / sqrt(prior
    s^2), and a response at the mean has std 0."""
    generator = np.random.default_rng(0)
    states = torch.tensor(np.stack([generator.normal(size=400), np.tile([1.0, 1.0, -1.0, -1.0], 100)], axis=1))
    groups = [Group(f"p{i}", [[1], [2]], 0, 0, [Edge(0, 1)], []) for i in range(200)]
    problem = HeadProblem(RewardSpec(data="-", tuning="head"), groups=groups, states=states)
    spread, prior = fit_laplace(problem, weights=torch.zeros(2), prior=4.0)
    assert prior == 4.0
    center = spread.center
    points = center + torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
    std = spread.std(points).tolist()
    unit = 1 / (math.sqrt(4.0) * float(states[:, 1].std()))
    assert std[0] == 0
    assert std[2:] == pytest.approx([unit, 3 * unit], rel=1e-6)
    assert std[1] < 0.3 * std[2]


def test_the_posterior_covers_the_truth_as_often_as_it_says() -> None:
    """40 simulated data sets, weights drawn from the prior; 20 new leads each: 95 % intervals cover 0.90 to 0.985."""
    covered: list[bool] = []
    for seed in range(40):
        lead, real, std = foretell(seed, n=80, prior=10 / 4)  # weights have variance 4 / 10; states are standard normal
        covered += ((lead - real).abs() < 1.96 * std).tolist()
    assert 0.90 <= sum(covered) / len(covered) <= 0.985


def test_a_head_that_is_too_sure_loses_less_where_its_uncertainty_is_integrated_over() -> None:
    """40 pairs, a prior five times too weak: the log loss of new comparisons falls by more than 0.04."""
    plain = integrated = 0.0
    for seed in range(20):
        lead, real, std = foretell(seed, n=40, prior=0.5)
        won = torch.sigmoid(real)
        losses = [
            float(-(won * p.log() + (1 - won) * (1 - p).log()).mean())
            for p in (torch.sigmoid(lead), probability_better(lead, std))
        ]
        plain, integrated = plain + losses[0] / 20, integrated + losses[1] / 20
    assert integrated < plain - 0.04


def foretell(seed: int, *, n: int, prior: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Leads of 20 new pairs by a head fitted on n, their true values, and their standard deviations."""
    groups, states, truth = simulate(n, width=10, seed=100 + seed, scale=2.0)
    problem = HeadProblem(RewardSpec(data="-", tuning="head"), groups=groups, states=states)
    weights = problem.unscale(fit_head(problem, prior=prior).weights)
    spread, _ = fit_laplace(problem, weights=weights, prior=prior)
    new = torch.tensor(np.random.default_rng(seed).normal(size=(20, 2, 10)))
    difference = new[:, 0] - new[:, 1]
    return difference @ weights, difference @ torch.tensor(truth), spread.std_between(new[:, 0], new[:, 1])


def test_the_probit_approximation_by_hand() -> None:
    """Lead 1, std 0: sigmoid(1) = 0.7311; std sqrt(8/pi): sigmoid(1/sqrt 2) = 0.6698."""
    found = probability_better(torch.tensor([1.0, 1.0]), torch.tensor([0.0, math.sqrt(8 / math.pi)]))
    assert found.tolist() == pytest.approx([0.7311, 0.6698], abs=1e-4)


def test_an_ensembles_spread_is_about_laplaces() -> None:
    """400 pairs, 3 features, 40 members: standard deviations of leads within a third of each other on average."""
    groups, states, _ = simulate(400, width=3, seed=5, scale=2.0)
    problem = HeadProblem(RewardSpec(data="-", tuning="head"), groups=groups, states=states)
    best = fit_head(problem, prior=1.0)
    laplace, _ = fit_laplace(problem, weights=problem.unscale(best.weights), prior=1.0)
    ensemble = fit_ensemble(problem, solution=best, members=40, seed=0)
    new = torch.tensor(np.random.default_rng(9).normal(size=(50, 3)))
    assert ensemble.root.shape == (3, 40)
    assert float((ensemble.std(new) / laplace.std(new)).mean()) == pytest.approx(1.0, abs=0.34)


@pytest.fixture(scope="module")
def head_run(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> RunDir:
    spec = make_spec("reward", tuning="head", ensemble=5)
    run = RunDir(tmp_path_factory.mktemp("head") / "run").create(spec)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return run


def test_a_head_run_gives_a_plain_model_with_its_uncertainty(head_run: RunDir, tiny_model: Path) -> None:
    """The backbone is the base model's to the last bit; the report says the prior and the figures with and without the
    uncertainty; metrics hold one row a prior tried."""
    report = head_run.read_report()
    assert report["heldout"]["accuracy"] > 0.8
    assert report["head"]["rounds"] > 0
    assert report["uncertainty"]["kind"] == "ensemble"
    assert report["uncertainty"]["log_loss"] == pytest.approx(report["heldout"]["log_loss"], abs=0.1)
    rows = head_run.read_metrics()
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert {"loss", "prior", "evidence", "accuracy"} <= rows[0].keys()
    model = head_run.outputs / "model"
    assert {"laplace.safetensors", "ensemble.safetensors", "model.safetensors", "README.md"} <= {
        file.name for file in model.iterdir()
    }
    trained, base = load_file(model / "model.safetensors"), load_file(tiny_model / "model.safetensors")
    assert torch.equal(trained["model.norm.weight"], base["model.norm.weight"])


def test_features_are_read_once_for_all_runs(
    tmp_path: Path, head_run: RunDir, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same texts and model in another run, with another loss: the cache serves every response of training."""
    read: list[int] = []
    from rewardmodel import features

    real = features.iterate_states

    def count(*args: Any, **kwargs: Any) -> Any:
        read.append(len(kwargs["sequences"]))
        return real(*args, **kwargs)

    monkeypatch.setattr(features, "iterate_states", count)
    spec = make_spec("reward", tuning="head", label_smoothing=0.1, head_prior=64.0)
    run = RunDir(tmp_path / "run").create(spec)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert read == []
    assert len(run.read_metrics()) == 1
    assert run.read_report()["head"]["prior"] == 64.0
    assert run.read_report()["uncertainty"]["kind"] == "laplace"


def test_a_stopped_head_run_goes_on_to_the_same_model(
    tmp_path: Path, head_run: RunDir, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while it was fitted, then started again: the same bytes, and no metric twice."""
    from rewardmodel.train import reward

    run = RunDir(tmp_path / "run").create(make_spec("reward", tuning="head", ensemble=5))
    real = reward.log_metrics

    def stop(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        run.request_cancel()

    monkeypatch.setattr(reward, "log_metrics", stop)
    assert run_job(run, show=False) == "cancelled"
    monkeypatch.undo()
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    rows = [[{**row, "time": 0} for row in one.read_metrics()] for one in (head_run, run)]
    assert rows[0] == rows[1]
    files = [one.outputs / "model" / "model.safetensors" for one in (head_run, run)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_scores_come_with_their_standard_deviation(tmp_path: Path, head_run: RunDir) -> None:
    """In a run's rows, and with --uncertainty on the command line, where several responses to one prompt also get the
    probability of beating the others; scores are the same without."""
    from rewardmodel.cli import main

    texts = ["thanks the cat", "the cat sat", "rain fell"]
    rows = [{"response_id": str(i), "prompt": "a b", "response": text} for i, text in enumerate(texts)]
    rows.append({"response_id": "alone", "prompt": "c d", "response": "some trees"})
    data = write_rows(tmp_path / "rows.jsonl", rows)
    model = str(head_run.outputs / "model")
    run = RunDir(tmp_path / "run").create({"method": "score", "model": model, "data": str(data), "precision": "fp32"})
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    found = {row["response_id"]: row for row in read_json_lines(run.outputs / "scores.jsonl")}
    arguments = ["score", model, str(data), "--precision", "fp32", "--out"]
    assert main([*arguments, str(tmp_path / "plain.jsonl")]) == 0
    assert main([*arguments, str(tmp_path / "sure.jsonl"), "--uncertainty"]) == 0
    plain, sure = (read_json_lines(tmp_path / f"{name}.jsonl") for name in ("plain", "sure"))
    assert [row["score"] for row in plain] == [row["score"] for row in sure]
    assert "std" not in plain[0]
    assert [row["std"] for row in sure] == pytest.approx([found[row["response_id"]]["std"] for row in sure], abs=1e-6)
    assert all(row["std"] > 0 for row in sure)
    assert sum(row["beats_others"] for row in sure[:3]) == pytest.approx(1.5)
    assert sure[3]["beats_others"] is None


def test_a_model_without_uncertainty_is_refused_where_it_is_asked_for(
    tmp_path: Path, reward_run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    from rewardmodel.cli import main

    data = write_rows(tmp_path / "rows.jsonl", [{"prompt": "a", "response": "b"}])
    model = str(reward_run.outputs / "model")
    assert main(["score", model, str(data), "--out", str(tmp_path / "out.jsonl"), "--uncertainty"]) == 2
    assert "laplace: on" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [{"tuning": "full"}, {"loss": "plackett-luce"}])
def test_any_reward_model_can_be_given_its_posterior(
    tmp_path: Path, make_spec: MakeSpec, changes: dict[str, Any]
) -> None:
    for split, n in (("train", 12), ("test", 6)):
        write_rows(tmp_path / "data" / f"{split}.jsonl", build_rankings(n, seed=len(split)))
    run = RunDir(tmp_path / "run").create(
        make_spec("reward", data=str(tmp_path / "data"), laplace="on", epochs=2.0, learning_rate=3e-3, **changes)
    )
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    spread = find_spread(run.outputs / "model")
    assert spread is not None
    assert spread.kind == "laplace"
    assert spread.root.shape == (64, 64)
    assert math.isfinite(run.read_report()["uncertainty"]["log_loss"])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"ensemble": 4}, "ensemble: members are heads; set tuning head"),
        ({"tuning": "head", "text_weight": 0.1}, "text_weight: tuning head leaves the language model as it is"),
        ({"head_prior": 1.0}, "head_prior: is for tuning head"),
        ({"tuning": "head", "laplace": "off", "ensemble": 1}, "ensemble: must be at least 2"),
        ({"tuning": "hed"}, "did you mean 'head'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(SpecError, match=error):
        parse_spec({"method": "reward", "data": "-", **changes})


def test_a_spread_that_is_none_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from rewardmodel.contract import InputError

    assert find_spread(tmp_path) is None
    save_file({"other": torch.zeros(1)}, tmp_path / "laplace.safetensors")
    with pytest.raises(InputError, match="holds no uncertainty"):
        find_spread(tmp_path)
    assert (
        json.dumps(Spread("laplace", torch.eye(2), torch.zeros(2)).std(torch.tensor([[3.0, 4.0]])).tolist()) == "[5.0]"
    )
