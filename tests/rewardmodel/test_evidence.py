"""The advisor's evidence: what is counted in files, verifiers that work or do not, trials, the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from rewardmodel import evidence as module
from rewardmodel.advisor import Share
from rewardmodel.cli import main
from rewardmodel.contract import GenerateSpec, InputError
from rewardmodel.data import DataError, hash_file
from rewardmodel.evidence import collect_evidence, read_project, shows_reasoning, try_thinking_aloud
from rewardmodel.jobs import run_job
from rewardmodel.rundir import RunDir
from tests.rewardmodel.tiny import write_rows

WORKED = "First we add the two numbers, one after the other, on our fingers. Then we count them all again. It is {}."


def sums(n: int, *, form: str = "{}", verifier: bool = True) -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"What is {i} + {i}?",
            "reference": form.format(2 * i),
            **({"verifier": {"kind": "math", "answer": 2 * i}} if verifier else {}),
        }
        for i in range(1, n + 1)
    ]


def evidence_of(tmp_path: Path, *files: list[dict[str, Any]]) -> Any:
    paths = [write_rows(tmp_path / f"{number}.jsonl", rows) for number, rows in enumerate(files)]
    return collect_evidence(read_project(paths))


def test_verifiers_are_tried_on_right_answers_and_on_those_to_other_prompts(tmp_path: Path) -> None:
    """One of 12 references is wrong, so unusable. Each answer also goes to another prompt's verifier."""
    rows = sums(12)
    rows[3]["reference"] = "999"
    found = evidence_of(tmp_path, rows)
    assert (found.prompts, found.labelled, found.unusable) == (12, 11, 1)
    assert (found.checked, found.references, found.strangers) == (Share(12, 12), Share(11, 12), Share(0, 12))
    assert found.worked == 0


def test_a_verifier_that_accepts_anything_is_seen_by_its_strangers(tmp_path: Path) -> None:
    anything = {"kind": "constraints", "constraints": [{"type": "length", "unit": "words", "at_least": 1}]}
    found = evidence_of(tmp_path, [{**row, "verifier": anything} for row in sums(6)])
    assert (found.references, found.strangers) == (Share(6, 6), Share(6, 6))


def test_answers_that_are_empty_or_said_twice_are_no_labels(tmp_path: Path) -> None:
    rows = sums(5, form=WORKED, verifier=False)
    rows += [{**rows[0]}, {"prompt": "Why?", "completion": " "}, {"prompt": "Who?", "reference": None}]
    bad = {"prompt": "Where?", "completion": "Nowhere.", "label": False}
    found = evidence_of(tmp_path, rows, [bad, {**bad, "prompt": "When?", "label": True}])
    assert (found.prompts, found.labelled, found.unusable, found.worked) == (9, 6, 2, 5)
    assert found.checked == Share(0, 9)


def test_comparisons_and_agreement_come_from_pairs_and_rankings(tmp_path: Path) -> None:
    """a ≻ b twice and once the other way round: one pair judged again, not alike. a ≻ c twice, alike. The ranking gives
    a ≻ b and a ≻ c; its tie of b and c is no comparison."""

    def pair(chosen: str, rejected: str) -> dict[str, Any]:
        return {"prompt": "Say it.", "chosen": chosen, "rejected": rejected}

    ranking = {"prompt": "Say it.", "responses": ["a", "b", "c"], "ranks": [1, 2, 2]}
    found = evidence_of(tmp_path, [pair("a", "b"), pair("b", "a"), pair("a", "c")], [ranking])
    assert (found.prompts, found.preferences, found.agreement) == (1, 5, Share(1, 2))


@pytest.mark.parametrize(
    ("answer", "expected"), [("42", False), (WORKED.format(4), True), ("word " * 30, False), ("One. Two.", False)]
)
def test_reasoning_is_steps_and_words(answer: str, expected: bool) -> None:
    assert shows_reasoning(answer) == expected


def test_a_trial_compares_the_same_prompts_answered_directly_and_aloud(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose answers are right aloud alone, put in the place of the tiny one's: the gain is 1, and as 4
    prompts are few, at least 0.17 (Agresti and Min: 4/6 - 1.96 √(7/3) / 6)."""
    from rewardmodel import generate

    real = generate.generate_responses
    seen = []

    def answer(*args: Any, prompts: Any, **kwargs: Any) -> Any:
        responses = real(*args, prompts=prompts, **kwargs)
        seen.append([prompt[-1]["content"] for prompt in prompts])
        right = "Think" in prompts[0][-1]["content"]
        numbers = [2 * int(prompt[-1]["content"].split()[2]) if right else -1 for prompt in prompts]
        return [
            generate.Response(**{**vars(response), "text": f"The answer is {number}."})
            for response, number in zip(responses, numbers, strict=True)
        ]

    monkeypatch.setattr(generate, "generate_responses", answer)
    rows = read_project([write_rows(tmp_path / "rows.jsonl", sums(6))])
    spec = GenerateSpec(prompts="-", model=str(tiny_model), max_new_tokens=2, temperature=0.0, threads=1)
    trial = try_thinking_aloud(rows, spec=spec, n=4)
    assert (trial.prompts, trial.direct, trial.aloud, trial.gain) == (4, 0, 4, 1.0)
    assert trial.interval == pytest.approx((0.1676, 1.0), abs=1e-4)
    assert [text.split("\n")[0] for text in seen[0]] == [text.split("\n")[0] for text in seen[1]]
    with pytest.raises(InputError, match="at least two prompts with verifiers"):
        try_thinking_aloud(rows[:1], spec=spec, n=4)


def test_the_command_advises(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prompts with verifiers that work on the few right answers there are: RFT, for want of labels."""
    rows = sums(60)
    for row in rows[8:]:
        del row["reference"]
    file = write_rows(tmp_path / "prompts.jsonl", rows)
    assert main(["advise", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["method"], [step["node"] for step in said["path"]]) == ("rft", ["labels", "unlabelled"])
    assert said["evidence"]["references"] | {"interval": None} == {
        "count": 8, "total": 8, "value": 1.0, "interval": None
    }  # fmt: skip
    assert main(["advise", str(file)]) == 0
    text = capsys.readouterr().out
    for part in ("(rft)", "Why:", "What could change it:", "right answers accepted: 8 of 8 (0.676 to 1.000)", "(rlhf)"):
        assert part in text


def test_the_command_takes_thresholds_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """20 right answers are more than 15."""
    file = str(write_rows(tmp_path / "rows.jsonl", sums(20, verifier=False)))
    assert main(["advise", file, "--threshold", "many=15", "--threshold", "some=3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["method"], said["path"][-1]["node"], said["thresholds"]["some"]) == ("sft", "plenty", 3)
    for given, message in (
        ("mny=15", "threshold unknown 'mny': did you mean 'many'?"),
        ("many=x", "--threshold many=x: expected NAME=NUMBER"),
        ("fooled=2", "fooled: must lie between 0 and 1, got 2"),
    ):
        assert main(["advise", file, "--threshold", given]) == 2
        assert message in capsys.readouterr().err


def test_a_run_reports_the_advice_and_its_drawing(tmp_path: Path, tiny_model: Path) -> None:
    """20 sums with verifiers and 8 right answers: with 8 enough, there are labels, and thinking aloud is tried. A model
    that knows nothing gains nothing: SFT."""
    rows = sums(20)
    for row in rows[8:]:
        del row["reference"]
    file = write_rows(tmp_path / "project.jsonl", rows)
    spec = {"method": "advise", "data": str(file), "model": str(tiny_model), "trial_prompts": 4, "max_new_tokens": 2}
    run = RunDir(tmp_path / "run")
    run.create({**spec, "some": 8, "threads": 1})
    assert run_job(run, show=False) == "succeeded"
    report = run.read_report()
    said = report["advice"]
    assert (said["method"], [step["node"] for step in said["path"]]) == ("sft", ["labels", "plenty", "reasoning"])
    assert (said["thresholds"]["some"], said["evidence"]["trial"]["prompts"]) == (8, 4)
    assert report["drawing"]["tree"]["answer"] == "yes"
    assert report["data"] == {"rows": 20, "sha256": hash_file(file), "tried_at_most": 500}
    assert run.read_status()["total_steps"] > 0


def test_a_run_that_has_nothing_to_try_a_model_on_says_so(tmp_path: Path, tiny_model: Path) -> None:
    file = write_rows(tmp_path / "project.jsonl", sums(3, verifier=False))
    run = RunDir(tmp_path / "run")
    run.create({"method": "advise", "data": str(file), "model": str(tiny_model), "threads": 1})
    assert run_job(run, show=False) == "bad input"
    assert run.read_status()["error"] == "model: a trial of thinking aloud needs at least two prompts with verifiers"


def test_preferences_without_anything_else_are_for_rlhf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"Say {i}.", "chosen": "a", "rejected": "b"} for i in range(600)]
    assert main(["advise", str(write_rows(tmp_path / "pairs.jsonl", rows)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "rlhf"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "verifier": {"kind": "maths"}}, "line 1, verifier: kind: unknown 'maths'"),
        ({"prompt": "a", "verifier": "{"}, "line 1, verifier: is text, but not JSON"),
        ({"prompt": "a", "reference": 4}, "line 1, reference: expected a string"),
        ({"reference": "4"}, "line 1, prompt: missing"),
    ],
)
def test_a_bad_row_is_named(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_project([write_rows(tmp_path / "rows.jsonl", [row])])


def test_where_there_are_many_a_sample_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIED", 5)
    found = evidence_of(tmp_path, sums(12))
    assert (found.references, found.strangers.total, found.labelled) == (Share(5, 5), 5, 12)
