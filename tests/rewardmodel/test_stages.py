"""Specs of pipelines: what is refused, and where; gates on reports written by hand."""

import subprocess
import sys
from typing import Any

import pytest

from rewardmodel.contract import METHODS, SpecError
from rewardmodel.documents import read_document, write_document
from rewardmodel.stages import (
    FIGURES,
    Reference,
    Stage,
    describe_verdict,
    headline,
    judge_gate,
    list_sources,
    map_references,
    parse_pipeline,
)

SFT = {"name": "sft", "spec": {"method": "sft", "data": "answers"}}
RFT: dict[str, Any] = {"name": "rft", "spec": {"method": "rejection", "model": "@sft", "data": "sums"}}
REWARD = {"name": "reward", "spec": {"method": "reward", "data": "pairs"}}


def stages(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"stages": list(entries)}


def with_spec(name: str = "last", gate: Any = None, **spec: Any) -> dict[str, Any]:
    return {"name": name, "spec": spec, **({"gate": gate} if gate is not None else {})}


def test_every_method_of_the_contract_can_be_a_stage_but_those_that_look_at_projects() -> None:
    assert set(FIGURES) | {"advise", "verify"} == set(METHODS)


def test_a_pipeline_keeps_specs_as_written_and_knows_where_each_stage_takes_from() -> None:
    ppo = with_spec(
        "ppo", method="ppo", model="@rft", data="prompts",
        rewards=[{"kind": "model", "model": ["@reward", "hub/judge"]}, {"kind": "format", "pattern": "@sft"}],
    )  # fmt: skip
    dpo = with_spec("dpo", method="dpo", model="@rft", data={"train": "@rft/pairs.jsonl", "test": "t.jsonl"})
    pipeline = parse_pipeline(stages(SFT, RFT, REWARD, ppo, dpo))
    assert [stage.spec for stage in pipeline.stages] == [SFT["spec"], RFT["spec"], REWARD["spec"], ppo["spec"],
                                                         dpo["spec"]]  # fmt: skip
    assert [list_sources(stage) for stage in pipeline.stages] == [[], ["sft"], [], ["rft", "reward"], ["rft"]]
    assert map_references(dpo["spec"], replace=lambda reference, field: f"{field}={reference}") == {
        "method": "dpo", "model": "model=@rft", "data": {"train": "data.train=@rft/pairs.jsonl", "test": "t.jsonl"},
    }  # fmt: skip
    assert Reference("sft", "") != Reference("sft", "a")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "pipeline: expected a mapping with stages, got list"),
        ({"stage": []}, "pipeline: unknown 'stage': did you mean 'stages'?"),
        ({}, "pipeline: stages is missing"),
        (stages(), "stages: expected a list of 1 to 30 stages"),
        (stages({"spec": {}}), "stages[0]: name is missing"),
        (stages({**SFT, "gates": {}}), "stages[0]: unknown 'gates': did you mean 'gate'?"),
        (stages({**SFT, "name": "My SFT"}), "stages[0].name: expected small letters"),
        (stages({**SFT, "name": "../up"}), "stages[0].name: expected small letters"),
        (stages({**SFT, "name": "start"}), "stages[0].name: 'start' has a meaning of its own"),
        (stages(SFT, SFT), "stages[1].name: 'sft' is taken"),
        (stages(with_spec(method="stf")), "stage last: spec.method: unknown 'stf': did you mean 'sft'?"),
        (stages(with_spec(method="sft", dta="x")), "stage last: spec: unknown 'dta': did you mean 'data'?"),
        (stages(with_spec(method="sft", data="x", epochs=0)), "stage last: spec.epochs: must be above 0"),
        (stages(RFT), "stage rft: spec.model: @sft is no earlier stage: this is the first stage"),
        (stages(SFT, {**RFT, "spec": {**RFT["spec"], "model": "@sff"}}), "did you mean 'sft'?"),
        (stages(REWARD, RFT), "stage rft: spec.model: @sft is no earlier stage: unknown 'sft'"),
        (stages(REWARD, with_spec(method="dpo", model="@reward", data="x")), "is a reward model, but a policy is"),
        (
            stages(SFT, with_spec(method="ppo", reward_model="@sft", data="x")),
            "stage last: spec.reward_model: @sft is a policy, but a reward model is wanted",
        ),
        (stages(SFT, with_spec(method="score", model="@sft", data="x")), "is a policy, but a reward model is wanted"),
        (
            stages(SFT, with_spec(method="sft", data={"train": "@sft/pairs.jsonl", "test": "t"})),
            "stage last: spec.data.train: @sft/pairs.jsonl is no file of stage sft; a stage of method sft leaves no",
        ),
        (
            stages(SFT, RFT, with_spec(method="dpo", data={"train": "@rft/pair.jsonl", "test": "t"})),
            "its files are accepted.jsonl, pairs.jsonl",
        ),
        (stages(SFT, RFT, with_spec(method="dpo", data="@rft/pairs.jsonl")), "is one file; name splits, as {train:"),
        (stages(SFT, with_spec(method="dpo", model="@sft/x", data="d")), "is no model; name a stage that trains one"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_with_its_place(document: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_pipeline(document)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("pass@1", "stage rft: gate: expected a mapping of settings, got str"),
        ({}, "stage rft: gate.metric: required by gate"),
        ({"metric": "pass@1"}, "gate.at_least: a gate has one bound of at_least, at_most, not_below, not_above; got n"),
        ({"metric": "pass@1", "at_least": 0, "at_most": 1}, "got at_least and at_most"),
        ({"metric": "pass@2", "at_least": 0}, "stage rft: gate.metric: unknown 'pass@2': did you mean 'pass@"),
        ({"metric": "accuracy", "at_least": 0}, "gate.metric: unknown 'accuracy'"),
        ({"metric": "pass@1", "not_below": "sft"}, "gate.not_below: 'sft' is no earlier stage; known are start, @sft"),
        ({"metric": "pass@1", "not_below": "@sft"}, "gate.not_below: stage sft has no pass@1; it has loss, gain"),
        (
            {"metric": "gain", "not_below": "start"},
            "the report has no gain of the model before the stage; it has pass@1,",
        ),
        ({"metric": "rounds.x", "not_below": "start"}, "the report has no rounds.x of the model before the stage"),
        ({"metric": "gain", "not_below": "@sft"}, "gain of method rejection is another quantity than of sft"),
        ({"metric": "pass@1", "at_least": "half"}, "gate.at_least: expected float or None"),
        ({"metric": "pass@1", "at_least": 0, "tolerance": -1}, "gate.tolerance: must be at least 0"),
        ({"metric": "pass@1", "at_least": 0, "judge_by": "interval"}, "gate.judge_by: unknown 'interval'"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_refused_before_anything_runs(gate: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_pipeline(stages(SFT, {**RFT, "gate": gate}))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "metric"),
    [
        ({"method": "check", "model": "m", "data": "x"}, "pass@1"),
        ({"method": "dpo", "data": "x"}, "accuracy"),
        ({"method": "kto", "data": "x"}, "auc"),
        ({"method": "reward", "data": "x", "loss": "ratings"}, "accuracy"),
    ],
)
def test_a_gate_on_the_start_needs_a_report_that_measures_the_start_alike(spec: dict[str, Any], metric: str) -> None:
    with pytest.raises(
        SpecError, match="of the model before the stage; compare with a number or with an earlier stage"
    ):
        parse_pipeline(stages(with_spec(gate={"metric": metric, "not_below": "start"}, **spec)))


def test_references_that_the_caller_resolves_are_left_to_it() -> None:
    entry = with_spec("sft", method="sft", data="@snapshot/3")
    assert parse_pipeline(stages(entry), outside=("snapshot",)).stages[0].spec["data"] == "@snapshot/3"
    with pytest.raises(SpecError, match="'snapshot' has a meaning of its own"):
        parse_pipeline(stages({**entry, "name": "snapshot"}), outside=("snapshot",))


def answers(value: float, *, interval: list[float] | None, n_prompts: int = 50) -> dict[str, Any]:
    return {"heldout": {"pass_at_1": value, "interval": interval, "n_prompts": n_prompts},
            "baselines": {"untrained": {"pass_at_1": 0.40, "interval": [0.3, 0.5]}}}  # fmt: skip


@pytest.mark.parametrize(
    ("gate", "holds"),
    [
        ({"at_least": 0.42}, True),
        ({"at_least": 0.43}, False),
        ({"at_least": 0.43, "tolerance": 0.02}, True),
        ({"at_most": 0.42}, True),
        ({"at_most": 0.41}, False),
        ({"not_below": "start"}, True),
        ({"not_above": "start"}, False),
        ({"not_below": "@first"}, False),
        ({"not_below": "@first", "tolerance": 0.08}, True),
        ({"not_below": "@first", "judge_by": "part-of-interval"}, True),
        ({"not_below": "start", "judge_by": "whole-interval"}, False),
        ({"at_least": 0.35, "judge_by": "whole-interval"}, True),
        ({"at_most": 0.5, "judge_by": "whole-interval"}, False),
        ({"at_most": 0.4, "judge_by": "part-of-interval"}, True),
    ],
)
def test_a_gate_holds_a_figure_or_its_interval_to_its_bound(gate: dict[str, Any], holds: bool) -> None:
    """pass@1 is 0.42 (0.36 to 0.51) after, 0.40 before, and 0.50 at stage first.

    0.42 >= 0.50 - 0.08 holds by a hair; the upper end 0.51 reaches 0.50; the lower end 0.36 does not reach 0.40.
    """
    first = with_spec("first", method="check", data="d")
    last = with_spec("last", gate={"metric": "pass@1", **gate}, method="rejection", data="d")
    reports = {"first": answers(0.50, interval=[0.4, 0.6]), "last": answers(0.42, interval=[0.36, 0.51])}
    verdict = judge_gate(parse_pipeline(stages(first, last)).stages[1], reports=reports)
    assert verdict.holds is holds
    assert (verdict.value, verdict.interval) == (0.42, (0.36, 0.51))


def test_a_verdict_says_figure_interval_bound_and_what_to_know() -> None:
    first = with_spec("first", method="check", data="d")
    gate = {"metric": "pass@1", "not_below": "@first", "tolerance": 0.02}
    stage = parse_pipeline(stages(first, with_spec("last", gate=gate, method="check", data="d"))).stages[1]
    reports = {"first": answers(0.50, interval=[0.4, 0.6], n_prompts=20), "last": answers(0.42, interval=[0.36, 0.51])}
    assert describe_verdict(judge_gate(stage, reports=reports).to_dict()) == (
        "pass@1 0.42 (0.36 to 0.51), wanted at least 0.5 of stage first, tolerance 0.02: does not hold; "
        "the two were measured on 50 and 20 prompts"
    )


def test_a_report_without_the_figure_or_its_interval_is_no_pass() -> None:
    def judge(gate: dict[str, Any], report: dict[str, Any]) -> None:
        stage: Stage = parse_pipeline(stages({**SFT, "gate": gate})).stages[0]
        judge_gate(stage, reports={"sft": report})

    with pytest.raises(SpecError, match=r"the report of stage sft has no number at heldout\.lss"):
        judge({"metric": "heldout.lss", "at_most": 1}, {"heldout": {"loss": 0.5}})
    with pytest.raises(SpecError, match=r"no number at heldout\.loss"):
        judge({"metric": "loss", "at_most": 1}, {"heldout": {"loss": float("nan")}})
    with pytest.raises(SpecError, match=r"no number at baselines\.untrained\.loss"):
        judge({"metric": "loss", "not_above": "start"}, {"heldout": {"loss": 0.5}})
    with pytest.raises(SpecError, match="has no interval of loss; use figure"):
        judge({"metric": "loss", "at_most": 1, "judge_by": "whole-interval"}, {"heldout": {"loss": 0.5}})


def test_the_headline_is_told_with_its_interval_over_prompts_where_there_is_one() -> None:
    held = {"accuracy": 0.7, "interval": [0.65, 0.75], "interval_by_prompt": [0.6, 0.8], "log_loss": 0.6}
    assert headline("reward", report={"heldout": held}) == ("accuracy", 0.7, (0.6, 0.8))
    assert headline("reward", report={"heldout": {**held, "interval_by_prompt": None}}) == ("accuracy", 0.7,
                                                                                            (0.65, 0.75))  # fmt: skip
    assert headline("reward", report={"heldout": {"attributes": {}}}) is None
    assert headline("generate", report={"n": 3}) is None


def test_documents_are_yaml_or_json_without_traps() -> None:
    assert read_document('{"a": 1e-4}') == read_document("a: 1e-4") == {"a": 0.0001}
    assert read_document(write_document({"b": "@sft", "a": [1, "文"]})) == {"b": "@sft", "a": [1, "文"]}
    with pytest.raises(SpecError, match=r'write references in quotes, as "@sft"'):
        read_document("model: @sft")
    with pytest.raises(SpecError, match="line 2: aliases"):
        read_document("a: &x [1]\nb: [*x, *x]")
    with pytest.raises(SpecError, match="nested too deeply"):
        read_document("[" * 10_000)
    with pytest.raises(SpecError, match="not valid YAML"):
        read_document("!!python/object/apply:os.system ['true']")


def test_the_module_of_stages_imports_the_standard_library_alone() -> None:
    code = (
        "import sys, rewardmodel.stages, rewardmodel.documents;"
        "print([name for name in ('torch', 'transformers', 'yaml', 'numpy', 'django') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
