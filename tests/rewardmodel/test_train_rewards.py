"""Rewards of several terms, and a gold model beside them, on tiny models."""

import json
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rewardmodel.contract import OnlineSpec, SpecError, parse_spec
from rewardmodel.data import PromptItem, read_prompts
from rewardmodel.generate import Response
from rewardmodel.jobs import run_job
from rewardmodel.rundir import RunDir
from rewardmodel.sandbox import SandboxUnavailable
from rewardmodel.score import load_scorer, score_texts
from rewardmodel.train import ppo, rewards
from rewardmodel.train.ppo_report import trace_gold, warn_of_gold
from rewardmodel.train.rewards import Rewards, punish_length
from tests.rewardmodel.test_train_ppo import finish, read_weights
from tests.rewardmodel.tiny import write_rows

MakePPO = Callable[..., dict[str, Any]]


def answer(text: str, *, tokens: int) -> Response:
    return Response(
        prompt=0, index=0, text=text, finish_reason="eos", n_tokens=tokens, prompt_ids=(1,), ids=(1,) * tokens
    )


def count_cats(prompts: list[Any], responses: list[str], rows: list[dict[str, Any]]) -> list[int]:
    """A reward function: cats in the response, and one for a row that is marked."""
    return [text.count("cat") + bool(row.get("marked")) for text, row in zip(responses, rows, strict=True)]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cats` as an installed entry point."""
    point = EntryPoint(name="cats", value=f"{__name__}:count_cats", group=rewards.GROUP)
    monkeypatch.setattr(rewards, "entry_points", lambda group: [point] if group == rewards.GROUP else [])


def open_rewards(spec: dict[str, Any], *, items: list[PromptItem] | None = None) -> Rewards:
    parsed = parse_spec(spec)
    assert isinstance(parsed, OnlineSpec)
    return Rewards(parsed, items={"train": items or []})


def test_a_length_costs_nothing_and_then_more_in_a_line() -> None:
    """Free up to 10, all of it at 20: 15 tokens cost a half."""
    assert [punish_length(n, free=10, most=20) for n in (1, 10, 15, 20, 99)] == [0.0, 0.0, -0.5, -1.0, -1.0]


@pytest.mark.usefixtures("no_bubblewrap")
def test_code_without_bubblewrap_is_rewarded_only_where_the_operator_says_so(make_ppo: MakePPO) -> None:
    code = {"kind": "code", "tests": [{"asserts": ["assert f(1) == 2"]}]}
    items = [PromptItem("a", [{"role": "user", "content": "double it"}], {"verifier": code})]
    spec = parse_spec(make_ppo("rloo", reward_model=None, rewards=[{"kind": "verifier"}]))
    assert isinstance(spec, OnlineSpec)
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        Rewards(spec, items={"train": items})
    reward = Rewards(spec, items={"train": items}, unsafe_code=True)
    assert not reward.isolated
    assert reward(items, [answer("def f(x): return 2 * x", tokens=9)]).total == [1.0]


@pytest.mark.usefixtures("installed")
def test_the_reward_is_the_weighted_sum_of_its_terms(make_ppo: MakePPO) -> None:
    """A form (0.5 x 1), a length (2 x -0.5), a function (3 x 2) and a verifier (1 x 1): 6.5; the other: 0."""
    terms = [
        {"kind": "format", "pattern": "the .*", "weight": 0.5},
        {"kind": "length", "free": 4, "most": 8, "weight": 2},
        {"kind": "python", "function": "cats", "weight": 3},
        {"kind": "verifier"},
    ]
    verifier = {"kind": "math", "answer": "7"}
    prompt = [{"role": "user", "content": "how many?"}]
    items = [
        PromptItem("a", prompt, {"verifier": verifier, "marked": True}),
        PromptItem("b", prompt, {"verifier": json.dumps(verifier)}),  # as snapshots keep it
    ]
    reward = open_rewards(make_ppo("rloo", reward_model=None, rewards=terms), items=items)
    found = reward(items, [answer("the cat says\n#### 7", tokens=6), answer("nothing", tokens=2)])
    assert found.parts == {"format": [1.0, 0.0], "length": [-0.5, 0.0], "python": [2.0, 0.0], "verifier": [1.0, 0.0]}
    assert found.total == [6.5, 0.0]


def test_several_reward_models_give_their_mean_less_their_spread(
    tmp_path: Path, make_ppo: MakePPO, tiny_data: Path, make_spec: MakePPO
) -> None:
    first = make_ppo()["reward_model"]
    other = finish(RunDir(tmp_path / "other").create(make_spec("reward", seed=3, max_steps=8))).outputs / "model"
    term = {"kind": "model", "model": [first, str(other)], "spread": 0.5}
    reward = open_rewards(make_ppo("rloo", reward_model=None, rewards=[term]))
    items = read_prompts(tiny_data / "test.jsonl")[:3]
    texts = ["a cat", "some red bird", "rain"]
    each = []
    for name in (first, str(other)):
        model, tokenizer, compute = load_scorer(name, precision="fp32")
        lines = [
            [*item.prompt, {"role": "assistant", "content": text}] for item, text in zip(items, texts, strict=True)
        ]
        each.append(score_texts(model, tokenizer=tokenizer, conversations=lines, compute=compute))
    both = np.array(each, dtype=float)
    assert np.abs(both[0] - both[1]).max() > 0.01
    expected = both.mean(0) - 0.5 * np.abs(both[0] - both[1]) / 2
    assert reward(items, [answer(text, tokens=2) for text in texts]).total == pytest.approx(expected.tolist())


@pytest.mark.usefixtures("installed")
def test_a_run_reports_each_reward_by_itself_and_resumes_with_them(
    tmp_path: Path, make_ppo: MakePPO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a reward model at all, PPO's critic begins as the policy."""
    terms = [{"kind": "python", "function": "cats", "name": "cats"}, {"kind": "length", "free": 2, "most": 8}]
    spec = make_ppo(reward_model=None, rewards=terms, value_model="policy")
    whole = finish(RunDir(tmp_path / "whole").create(spec))
    report, rows = whole.read_report(), whole.read_metrics()
    assert set(report["heldout"]["rewards"]) == {"cats", "length"}
    assert report["heldout"]["score"] == pytest.approx(
        sum(own["mean"] for own in report["heldout"]["rewards"].values()), abs=1e-6
    )
    assert all(row["score"] == pytest.approx(row["reward/cats"] + row["reward/length"], abs=1e-5) for row in rows)
    run = RunDir(tmp_path / "cut").create(spec)
    learn = ppo.PPOTraining.learn

    def stop(self: ppo.PPOTraining) -> None:
        learn(self)
        if self.done == 1 and self.part == 3:
            run.request_cancel()

    with monkeypatch.context() as patch:
        patch.setattr(ppo.PPOTraining, "learn", stop)
        assert run_job(run, show=False) == "cancelled"
    again = finish(run).read_metrics()
    plain = [[{key: value for key, value in row.items() if key != "time"} for row in each] for each in (rows, again)]
    assert plain[0] == plain[1]


def test_a_gold_model_scores_held_out_answers_and_changes_no_weight(
    tmp_path: Path, make_ppo: MakePPO, make_spec: MakePPO
) -> None:
    gold = finish(RunDir(tmp_path / "gold").create(make_spec("reward", seed=5, max_steps=8))).outputs / "model"
    plain = finish(RunDir(tmp_path / "plain").create(make_ppo(max_steps=4)))
    run = finish(RunDir(tmp_path / "run").create(make_ppo(max_steps=4, gold_model=str(gold), gold_steps=2)))
    ours, theirs = read_weights(run), read_weights(plain)
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    report = run.read_report()
    curve = report["gold_curve"]
    assert [point["step"] for point in curve] == [0, 2, 4]
    assert curve[0]["kl"] == 0
    assert curve[0]["gold"] == report["baselines"]["untrained"]["gold"]["mean"]
    judged = report["heldout"]["gold"]
    assert curve[-1]["gold"] == judged["mean"]
    assert judged["gain"] == pytest.approx(curve[-1]["gold"] - curve[0]["gold"])
    assert judged["higher_interval"][0] <= judged["higher"] <= judged["higher_interval"][1]
    assert curve[1]["gold"] != curve[1]["score"]
    assert [row["step"] for row in run.read_metrics() if "gold_score" in row] == [3]


def test_a_gold_score_that_fell_while_the_score_rose_is_said_so() -> None:
    answers = [{"scores": [0.0, 1.0], "gold": [1.0, 1.0]}, {"scores": [3.0], "gold": [1.5]}]
    rows = [{"step": 11, "heldout_kl": 5.0, "heldout_score": 2.0, "gold_score": 2.0}]
    curve = trace_gold(rows, before=answers[0], after=answers[1], steps=20, kl=30.0)
    assert curve == [
        {"step": 0, "kl": 0.0, "score": 0.5, "gold": 1.0},
        {"step": 10, "kl": 5.0, "score": 2.0, "gold": 2.0},
        {"step": 20, "kl": 30.0, "score": 3.0, "gold": 1.5},
    ]
    assert warn_of_gold(curve)[0].startswith("The gold model's score was highest after 10 steps (2.000 at 5.0 nats)")
    assert warn_of_gold(curve[:2]) == warn_of_gold([]) == []


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([{"kind": "modle"}], "rewards[0].kind: unknown 'modle': did you mean 'model'?"),
        ([{"kind": "length", "free": 9, "most": 9}], "rewards[0].most: 9 tokens, but 9 of them are free"),
        ([{"kind": "format", "pattern": "("}], "rewards[0].pattern: "),
        ([{"kind": "verifier"}, {"kind": "verifier"}], "rewards[1].name: 'verifier' is taken"),
        ([{"kind": "model", "model": []}], "rewards[0].model: expected a name or a list"),
        ([{"kind": "verifier", "weihgt": 1}], "rewards[0].unknown 'weihgt': did you mean 'weight'?"),
        (["verifier"], "rewards[0].kind: "),
        ([], "reward_model: required by method rloo"),
    ],
)
def test_a_bad_term_is_refused_naming_place_and_field(terms: list[Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec({"method": "rloo", "data": "d", "rewards": terms})
    assert str(caught.value).startswith(message)


def test_reward_model_and_rewards_together_and_a_critic_without_a_model_are_refused() -> None:
    terms = [{"kind": "verifier"}]
    with pytest.raises(SpecError, match="they stand in the place of reward_model"):
        parse_spec({"method": "rloo", "data": "d", "reward_model": "r", "rewards": terms})
    with pytest.raises(SpecError, match="value_model: no reward is a model"):
        parse_spec({"method": "ppo", "data": "d", "rewards": terms})


def test_rows_without_a_verifier_and_functions_that_are_not_installed_are_refused_before_training(
    tmp_path: Path, make_ppo: MakePPO
) -> None:
    data = tmp_path / "data"
    for split in ("train", "test"):
        write_rows(data / f"{split}.jsonl", [{"prompt_id": "p1", "prompt": "the cat"}])
    run = RunDir(tmp_path / "verifier").create(
        make_ppo("rloo", data=str(data), reward_model=None, rewards=[{"kind": "verifier"}])
    )
    assert run_job(run, show=False) == "bad input"
    assert "data (train), prompt p1: verifier: missing" in run.read_status()["error"]
    term = {"kind": "python", "function": "no-such-function"}
    run = RunDir(tmp_path / "python").create(make_ppo("rloo", reward_model=None, rewards=[term]))
    assert run_job(run, show=False) == "bad input"
    assert "no function 'no-such-function' is installed (entry points preferee.rewards)" in run.read_status()["error"]


def test_a_function_that_gives_no_number_ends_the_run_with_a_reason(
    tmp_path: Path, make_ppo: MakePPO, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = SimpleNamespace(name="bad", load=lambda: lambda prompts, responses, rows: [float("nan")] * len(prompts))
    monkeypatch.setattr(rewards, "entry_points", lambda group: [point])
    run = RunDir(tmp_path).create(
        make_ppo("rloo", reward_model=None, rewards=[{"kind": "python", "function": "bad", "name": "mine"}])
    )
    assert run_job(run, show=False) == "failed"
    assert "reward mine: gave a response nan" in run.read_status()["error"]
