"""`evaluate` and `evaluate-policy` from the command line, on a tiny model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewardmodel.cli import main
from rewardmodel.data import read_pairs
from rewardmodel.evaluate import evaluate_reward_model, reward_scores
from rewardmodel.rundir import RunDir, read_json_lines
from rewardmodel.score import load_scorer
from tests.rewardmodel.tiny import GOOD_WORD, build_pairs, write_rows

FAST = ["--precision", "fp32", "--threads", "1"]


def evaluate(model: RunDir, data: Path, *arguments: str) -> int:
    return main(["evaluate", str(model.outputs / "model"), str(data), *FAST, *arguments])


def read_last(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="session")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 pairs, every sixth of them the wrong way round, with all that rows may carry; one judged twice."""
    rows = build_pairs(60, seed=2)
    for number, row in enumerate(rows):
        if number % 6 == 0:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
        row.update(strength=number % 4, category="<b>even</b>" if number % 2 == 0 else "odd", meta={"size": number})
    rows[1]["paraphrases"] = {"chosen": [f"{GOOD_WORD} again"], "prompt": ["the rain"]}
    rows.append(rows[2])
    return write_rows(tmp_path_factory.mktemp("noisy") / "test.jsonl", rows)


def test_the_full_evaluation_holds_the_plain_one(
    tmp_path: Path, reward_run: RunDir, noisy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--json", "--slice", "meta.size", "--html", str(tmp_path / "r.html"), "--out", str(tmp_path / "out")]
    assert evaluate(reward_run, noisy, *arguments) == 0
    figures = read_last(capsys)
    plain = evaluate_reward_model(
        str(reward_run.outputs / "model"), data=noisy, precision="fp32", threads=1, batch_size=32
    )
    assert {key: figures[key] for key in plain} == plain
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == figures
    assert [cut["by"] for cut in figures["slices"]] == [
        "size of the margin", "length (characters)", "strength", "agreement", "meta.size", "category",
    ]  # fmt: skip
    for cut in figures["slices"]:
        assert sum(row["n"] for row in cut["rows"]) == (2 if cut["by"] == "agreement" else 61)
    margins = read_json_lines(tmp_path / "out" / "margins.jsonl")
    assert np.mean([row["margin"] > 0 for row in margins]) == figures["accuracy"]
    surprises = read_json_lines(tmp_path / "out" / "surprises.jsonl")
    assert [row["margin"] for row in surprises] == sorted(row["margin"] for row in margins if row["margin"] < 0)
    # The model learned the word, so that it finds the judgements that were turned round.
    assert {row["line"] for row in surprises[:8]} <= {1 + 6 * i for i in range(10)}
    page = (tmp_path / "r.html").read_text()
    assert "<b>even</b>" not in page
    assert "&lt;b&gt;even&lt;/b&gt;" in page
    assert (tmp_path / "out" / "card.md").read_text().startswith("<!-- evaluation: begin -->")


def test_other_forms_and_turned_pairs_are_scored(
    reward_run: RunDir, noisy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plain words have no Markdown to strip; two paraphrases were given; turning round changes nothing but rounding."""
    assert evaluate(reward_run, noisy, "--json", "--robustness-pairs", "20") == 0
    robustness = read_last(capsys)["robustness"]
    forms = {form["name"]: form for form in robustness["forms"]}
    assert {name: form["n"] for name, form in forms.items()} == {
        "Markdown stripped": 0, "Markdown added": 20, "white space": 20, "paraphrases": 2,
    }  # fmt: skip
    assert forms["Markdown stripped"]["left_out"] == {"unchanged": 20}
    assert robustness["order"]["n"] == 20
    assert robustness["order"]["largest_difference"] < 1e-4


def test_a_pair_turned_round_has_exactly_the_negated_margin(reward_run: RunDir, noisy: Path) -> None:
    from dataclasses import replace

    from rewardmodel.chat import encode_split

    model, tokenizer, compute = load_scorer(str(reward_run.outputs / "model"), precision="fp32", threads=1)
    pairs = encode_split(tokenizer, pairs=read_pairs(noisy), max_length=256).pairs
    turned = [replace(pair, chosen_ids=pair.rejected_ids, rejected_ids=pair.chosen_ids) for pair in pairs]
    scores = reward_scores(model, pairs=[*pairs, *turned], compute=compute)
    margins = scores[:, 0] - scores[:, 1]
    assert (margins[: len(pairs)] == -margins[len(pairs) :]).all()


def test_a_model_beside_itself_and_no_other_forms(
    reward_run: RunDir, noisy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(reward_run.outputs / "model")
    assert evaluate(reward_run, noisy, "--json", "--robustness-pairs", "0", "--compare", model) == 0
    figures = read_last(capsys)
    assert figures["robustness"] is None
    assert figures["comparison"]["accuracy_difference"] == 0
    assert figures["comparison"]["mcnemar"]["p"] == 1
    assert figures["comparison"]["accuracy"] == [figures["accuracy"]] * 2


def test_rankings_give_their_pairs_and_what_has_no_order_is_counted(
    tmp_path: Path, reward_run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ranking of three with two level: two strict pairs, one tie. One without an order. One pair with p 1/2."""
    texts = [f"{GOOD_WORD} sat", "sat on", "a mat"]
    rows = [
        {"prompt": "the cat", "responses": texts, "ranks": [1, 2, 2], "category": ["not", "plain"]},
        {"prompt": "the cat", "responses": texts, "ranks": []},
        {"prompt": "the cat", "chosen": "sat", "rejected": "on", "p": 0.5},
    ]
    assert evaluate(reward_run, write_rows(tmp_path / "r.jsonl", rows), "--json") == 0
    figures = read_last(capsys)
    assert (figures["n"], figures["n_prompts"]) == (2, 1)
    assert figures["dropped"] == {"too_long": 0, "identical": 0, "tied": 2, "unordered": 1}
    assert figures["interval_by_prompt"] is None


def test_the_training_file_is_known_again(
    reward_run: RunDir, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(reward_run, tiny_data / "train.jsonl", "--robustness-pairs", "0") == 0
    assert "train.jsonl is the file this model was trained on" in capsys.readouterr().err


def test_the_card_gets_a_section(tmp_path: Path, reward_run: RunDir, noisy: Path) -> None:
    import shutil

    copy = shutil.copytree(reward_run.outputs / "model", tmp_path / "model")
    before = (copy / "README.md").read_text()
    arguments = ["evaluate", str(copy), str(noisy), *FAST, "--robustness-pairs", "0", "--card"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert (copy / "README.md").read_text().startswith(before)
    assert (copy / "README.md").read_text().count("## Evaluation") == 1


def test_a_file_in_the_shape_of_reward_bench(
    tmp_path: Path, reward_run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"prompt": "the cat", "chosen": f"{GOOD_WORD} sat {i}", "rejected": f"sat on {i}", "subset": subset}
        for i, subset in enumerate(["hep-go"] * 3 + ["math-prm"] * 2 + ["donotanswer"] * 2)
    ]
    data = write_rows(tmp_path / "bench.jsonl", rows)
    assert evaluate(reward_run, data, "--json") == 0
    found = read_last(capsys)["sections"]
    assert [section["name"] for section in found["sections"]] == ["Safety", "Reasoning"]
    assert [row["weight"] for row in found["sections"][1]["subsets"]] == [984, 164]
    assert found["mean"] == pytest.approx(np.mean([section["accuracy"] for section in found["sections"]]))

    (tmp_path / "mine.json").write_text(json.dumps({"all": ["hep-go", "math-prm", "donotanswer"]}))
    assert evaluate(reward_run, data, "--json", "--sections", str(tmp_path / "mine.json")) == 0
    figures = read_last(capsys)
    assert figures["sections"]["mean"] == pytest.approx(figures["accuracy"])


def test_best_of_four_rows(tmp_path: Path, reward_run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    """A row is right where the chosen one is above all three; its three pairs enter the accuracy of pairs."""
    rows = [
        {
            "prompt": "the cat",
            "chosen": [f"{GOOD_WORD} sat {i}"],
            "rejected": [f"sat {i}", f"on {i}", f"{GOOD_WORD} sat {i}!" if i == 0 else f"a mat {i}"],
            "subset": "Focus",
        }
        for i in range(4)
    ]
    assert evaluate(reward_run, write_rows(tmp_path / "b.jsonl", rows), "--json", "--out", str(tmp_path / "o")) == 0
    figures = read_last(capsys)
    assert (figures["n"], figures["best_of"]["n"]) == (12, 4)
    right: dict[int, bool] = {}
    for row in read_json_lines(tmp_path / "o" / "margins.jsonl"):
        right[row["line"]] = right.get(row["line"], True) and row["margin"] > 0
    assert figures["best_of"]["accuracy"] == np.mean(list(right.values()))
    assert figures["sections"]["mean"] == figures["best_of"]["accuracy"]


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, ["--slice", "strenght"], "no row has 'strenght' to slice by: did you mean 'strength'?"),
        ({"tags": ["x"]}, ["--slice", "tags"], "line 1, tags: a list cannot be sliced by"),
        ({"agreement": "high"}, [], "line 1, agreement: expected a share from 0 to 1, found 'high'"),
        ({"paraphrases": ["x"]}, [], "line 1, paraphrases: expected an object"),
        ({"subset": "hep-go"}, [], "line 2, subset: expected a string as in other rows, found None"),
        ({"chosen": ["a"]}, [], "line 1, rejected: expected a list of texts, as on the other side"),
        ({}, ["--sections", "none.json"], "none.json cannot be read as JSON"),
        ({}, ["--robustness-pairs", "-1"], "--robustness-pairs: must be at least 0, got -1"),
    ],
)
def test_bad_input_is_named_by_file_line_and_field(
    tmp_path: Path,
    reward_run: RunDir,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    arguments: list[str],
    message: str,
) -> None:
    rows = [{**row, "strength": 1} for row in build_pairs(2)]
    rows[0].update(change)
    assert evaluate(reward_run, write_rows(tmp_path / "bad.jsonl", rows), *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def evaluate_policy(policy: Path, prompts: Path, *, reference: Path, judge: RunDir, more: list[str]) -> int:
    names = ["--reference", str(reference), "--reward-model", str(judge.outputs / "model")]
    return main(["evaluate-policy", str(policy), str(prompts), *names, *FAST, "--max-new-tokens", "6", *more])


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "prompts.jsonl", [{"prompt": f"the <i>cat</i> {i}"} for i in range(6)])


def test_a_policy_beside_its_reference(
    tmp_path: Path,
    dpo_run: RunDir,
    reward_run: RunDir,
    tiny_model: Path,
    prompts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = ["--json", "--n", "3", "--html", str(tmp_path / "p.html"), "--out", str(tmp_path / "out")]
    policy = dpo_run.outputs / "model"
    assert evaluate_policy(policy, prompts, reference=tiny_model, judge=reward_run, more=out) == 0
    figures = read_last(capsys)
    samples = read_json_lines(tmp_path / "out" / "samples.jsonl")
    assert (len(samples), figures["prompts"], figures["n"]) == (18, 6, 3)
    rates = []
    for i in range(6):
        own = samples[3 * i : 3 * i + 3]
        rates.append(np.mean([(np.sign(a["policy_score"] - b["reference_score"]) + 1) / 2 for a in own for b in own]))
    assert figures["win_rate"] == pytest.approx(np.mean(rates))
    assert figures["kl"]["per_response"] > 0
    assert figures["kl"]["own_samples"]
    assert 0 < figures["kl"]["entropy_per_token"] < np.log(512)
    assert 0 <= figures["length"]["at_limit"]["policy"] <= 1
    # Both learned from the same judgements, which a reader should know.
    assert ["same judgements" in warning for warning in figures["warnings"]] == [True]
    page = (tmp_path / "p.html").read_text()
    assert "<i>cat" not in page
    assert "&lt;i&gt;cat" in page


def test_a_model_beside_itself_wins_half_and_has_no_divergence(
    reward_run: RunDir, tiny_model: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Same seed, same samples: every comparison is a tie or undone by its mirror image."""
    assert evaluate_policy(tiny_model, prompts, reference=tiny_model, judge=reward_run, more=["--json"]) == 0
    figures = read_last(capsys)
    assert figures["win_rate"] == pytest.approx(0.5)
    assert figures["length"]["ratio"] == 1
    assert figures["kl"]["per_response"] == pytest.approx(0, abs=1e-6)


def test_a_cut_of_the_samples_is_said(
    reward_run: RunDir, tiny_model: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--json", "--top-p", "0.9", "--n", "1"]
    assert evaluate_policy(tiny_model, prompts, reference=tiny_model, judge=reward_run, more=more) == 0
    figures = read_last(capsys)
    assert "is not KL(policy || reference)" in figures["warnings"][0]
    assert figures["diversity"]["policy"]["self_bleu"] is None


def test_the_reward_model_that_a_policy_was_trained_against_is_no_judge(
    tmp_path: Path, reward_run: RunDir, tiny_model: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    policy = tmp_path / "run" / "outputs" / "model"
    shutil.copytree(tiny_model, policy)
    spec = {"method": "ppo", "reward_model": str(reward_run.outputs / "model")}
    (tmp_path / "run" / "spec.json").write_text(json.dumps(spec))
    assert evaluate_policy(policy, prompts, reference=tiny_model, judge=reward_run, more=["--n", "1"]) == 0
    assert "was trained against this reward model (reward_model in its run's spec)" in capsys.readouterr().err


def test_greedy_copies_are_refused(
    reward_run: RunDir, tiny_model: Path, prompts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--temperature", "0", "--n", "2"]
    assert evaluate_policy(tiny_model, prompts, reference=tiny_model, judge=reward_run, more=more) == 2
    assert "greedy responses are all the same" in capsys.readouterr().err
