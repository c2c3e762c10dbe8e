"""A reward model's evaluation as one page of HTML and as a section of its card; both from the figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rewardmodel.evaluation import page
from rewardmodel.evaluation.page import Markup, interval, number
from rewardmodel.evaluation.plots import draw_accuracies, draw_histogram, draw_reliability

ACCURACY_HEAD = ("", "n", "accuracy", "95 % interval")


def render_report(figures: Mapping[str, Any], *, surprises: Sequence[Mapping[str, Any]]) -> str:
    """The page. figures, surprises: as `reward_models.examine_reward_model` gives them."""
    title = f"Reward model {figures['model']}"
    body: list[Any] = [
        page.heading(title, level=1),
        page.paragraph(
            f"{figures['n']} pairs of {figures['n_prompts']} prompts from {figures['data']} "
            f"(SHA-256 {figures['data_sha256'][:12]}…); {_dropped(figures['dropped'])}. "
            f"Computed on {figures['device']} in {figures['precision']}.",
            kind="muted",
        ),
        *(page.paragraph(warning, kind="warning") for warning in figures["warnings"]),
        _headline(figures),
        page.paragraph(
            "Intervals are 95 %. Those of the headline draw whole prompts again, since pairs of one prompt are not "
            "independent; those of slices are Wilson's over pairs. A tie counts as half."
        ),
        *_calibration(figures),
        *_slices(figures),
        *_length(figures["length"]),
        *_robustness(figures["robustness"]),
        *_benchmark(figures),
        *_comparison(figures),
        *_surprises(surprises),
    ]
    return page.render_page(title, body=body)


def _headline(figures: Mapping[str, Any]) -> Markup:
    longer = figures["baselines"]["longer_wins"]
    temperature = figures["calibration"]["temperature"]
    balanced = figures["length"]["balanced"]
    items = [
        ("Accuracy", number(figures["accuracy"]), interval(figures["interval_by_prompt"] or figures["interval"])),
        ("Longer wins", number(longer["accuracy"]), interval(longer["interval"])),
        (
            "Accuracy, length balanced",
            number(balanced["accuracy"]) if balanced else "–",
            interval(balanced["interval"]) if balanced else "one side only",
        ),
        ("Log loss", number(figures["log_loss"]), "a coin: 0.693"),
        ("Brier score", number(figures["brier"]), "a coin: 0.250"),
        (
            "Calibration error",
            number(figures["calibration"]["ece"]),
            f"calibrated: up to {number(figures['calibration']['ece_if_calibrated'])}",
        ),
        ("Temperature", number(temperature["value"], digits=2), interval(temperature["interval"], digits=2)),
    ]
    return page.figures(items)


def _calibration(figures: Mapping[str, Any]) -> Iterator[Markup]:
    found = figures["calibration"]
    temperature = found["temperature"]
    yield page.heading("Calibration")
    over = "above" if found["ece"] > found["ece_if_calibrated"] else "within"
    yield page.paragraph(
        f"Is the model right as often as sigmoid(margin) says? Expected calibration error {number(found['ece'])} "
        f"({interval(found['ece_interval'])}), {over} what chance gives a calibrated model "
        f"(95 % below {number(found['ece_if_calibrated'])}); debiased root mean square {number(found['rms_error'])}."
    )
    yield page.paragraph(_describe_temperature(temperature))
    yield page.plots(
        [
            page.plot(
                "Reliability",
                drawing=draw_reliability(found["bins"]),
                note="Accuracy in bins of about equally many pairs. Below the diagonal the model is too sure.",
            ),
            page.plot(
                "Margins",
                drawing=draw_histogram(
                    figures["margins"]["edges"],
                    counts=figures["margins"]["counts"],
                    label="score(chosen) − score(rejected)",
                ),
                note=f"Pairs by margin; left of 0 the model prefers the rejected response. Mean "
                f"{number(figures['margins']['mean'], digits=2)}, standard deviation "
                f"{number(figures['margins']['sd'], digits=2)}.",
            ),
        ]
    )
    rows = [
        (
            f"{number(row['low'])} – {number(row['high'])}",
            row["n"],
            number(row["confidence"]),
            number(row["accuracy"]),
            interval(row["interval"]),
        )
        for row in found["bins"]
    ]
    head = ("confidence", "n", "mean", "accuracy", "95 % interval")
    yield page.fold("Reliability table", body=page.table(head, rows, label="Reliability", kinds="-nnnn"))


def _describe_temperature(temperature: Mapping[str, Any]) -> str:
    if temperature["value"] is None:
        return "No temperature helps: larger margins do not go with being right more often."
    after = temperature["log_loss_after"]
    told = (
        f"Margins divided by {number(temperature['value'], digits=2)} ({interval(temperature['interval'], digits=2)}) "
        "would be likeliest"
    )
    if after is None:
        return f"{told}; too few prompts to say what that does on others."
    return (
        f"{told}; fitted on one half of the prompts and applied to the other, log loss goes from "
        f"{number(temperature['log_loss_before'])} to {number(after)}, calibration error to "
        f"{number(temperature['ece_after'])}."
    )


def _slices(figures: Mapping[str, Any]) -> Iterator[Markup]:
    yield page.heading("Accuracy by slice")
    yield page.paragraph(
        "The dashed line is the accuracy of all pairs. With many slices one in twenty lies apart by chance.",
        kind="muted",
    )
    drawings, rows = [], []
    for cut in figures["slices"]:
        ceiling = cut.get("ceiling")
        note = f"People disagree: no model can exceed {number(ceiling)} on these rows." if ceiling else ""
        drawings.append(
            page.plot(f"By {cut['by']}", drawing=draw_accuracies(cut["rows"], overall=figures["accuracy"]), note=note)
        )
        rows += [(cut["by"], *_accuracy_row(row)) for row in cut["rows"]]
    yield page.plots(drawings)
    yield page.fold("Table of slices", body=page.table(("by", *ACCURACY_HEAD), rows, label="Slices", kinds="--nnn"))


def _accuracy_row(row: Mapping[str, Any], *, label: str | None = None) -> tuple[Any, ...]:
    return (label or row["label"], row["n"], number(row["accuracy"]), interval(row["interval"]))


def _length(found: Mapping[str, Any]) -> Iterator[Markup]:
    yield page.heading("Length")
    rows = [
        _accuracy_row(found["shorter_chosen"], label="the shorter one was chosen"),
        _accuracy_row(found["longer_chosen"], label="the longer one was chosen"),
    ]
    if found["balanced"]:
        rows.append(("both alike (“longer wins” has 0.5)", "", *_bounds(found["balanced"])))
    yield page.table(ACCURACY_HEAD, rows, label="Length", kinds="-nnn")
    regression = found["regression"]
    if regression:
        verdict = "The margin still counts" if regression["margin_counts"] else "The margin is not shown to count"
        length = (
            f" A much longer response gains {number(regression['length'], digits=2)} "
            f"({interval(regression['length_interval'], digits=2)}) in log odds at equal scores."
            if regression["length"] is not None
            else ""
        )
        yield page.paragraph(
            f"{verdict} once the difference in length is known: one unit of margin is worth "
            f"{number(regression['margin'], digits=2)} ({interval(regression['margin_interval'], digits=2)}) in log "
            f"odds (1 would be calibrated).{length} Logistic regression after Dubois et al. (2024)."
        )


def _bounds(found: Mapping[str, Any]) -> tuple[str, str]:
    return number(found["accuracy"]), interval(found["interval"])


def _robustness(found: Mapping[str, Any] | None) -> Iterator[Markup]:
    if not found:
        return
    yield page.heading("Other forms of the same words")
    rows = [
        (
            form["name"],
            form["n"],
            number(form.get("flips")),
            interval(form.get("flips_interval")),
            number(form.get("chosen_shift"), digits=2),
            number(form.get("rejected_shift"), digits=2),
            number(form.get("accuracy_before")),
            number(form.get("accuracy")),
            number(form.get("easy")),
            number(form.get("hard")),
            ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in form["left_out"].items()),
        )
        for form in found["forms"]
    ]
    head = (
        "form", "n", "flips", "95 % interval", "chosen shifts", "rejected shifts", "accuracy before", "after",
        "chosen alone", "rejected alone", "left out",
    )  # fmt: skip
    yield page.table(head, rows, label="Other forms", kinds="-nnnnnnnnn-")
    order = found["order"]
    yield page.paragraph(
        "Flips: pairs whose preferred side changed. Shifts: mean change of score. The last columns: accuracy where "
        "only the chosen, or only the rejected response has the other form. "
        f"Order: a response is scored by itself, so turning a pair round negates its margin; on {order['n']} pairs "
        f"scored again turned round, in other batches, the largest difference was {order['largest_difference']:.1e}."
    )


def _benchmark(figures: Mapping[str, Any]) -> Iterator[Markup]:
    best_of, found = figures.get("best_of"), figures.get("sections")
    if best_of:
        yield page.heading("Best of several")
        yield page.paragraph(
            f"The chosen response has the highest score in {number(best_of['accuracy'])} "
            f"({interval(best_of['interval'])}) of {best_of['n']} rows; {best_of['incomplete']} left out, a response "
            "of theirs being unusable."
        )
    if found and found["sections"]:
        yield page.heading("Sections and subsets")
        yield page.paragraph(
            f"Mean over sections {number(found['mean'])} ({interval(found['interval'])}), a section being the mean of "
            "its subsets by weight, as in RewardBench."
        )
        rows = [
            (section["name"], *_accuracy_row(row), f"{row['weight']:g}")
            for section in found["sections"]
            for row in section["subsets"]
        ]
        totals = [(section["name"], number(section["accuracy"])) for section in found["sections"]]
        yield page.table(("section", "accuracy"), totals, label="Sections", kinds="-n")
        head = ("section", "subset", "n", "accuracy", "95 % interval", "weight")
        yield page.table(head, rows, label="Subsets", kinds="--nnnn")
        if found["missing"]:
            yield page.paragraph(f"Subsets without rows: {', '.join(found['missing'])}.", kind="muted")


def _comparison(figures: Mapping[str, Any]) -> Iterator[Markup]:
    found = figures.get("comparison")
    if not found:
        return
    test = found["mcnemar"]
    yield page.heading("Beside another model")
    rows = [
        (
            name,
            *(number(value) for value in found[key]),
            number(found[f"{key}_difference"]),
            interval(found[f"{key}_interval"]),
        )
        for name, key in (("accuracy", "accuracy"), ("log loss", "log_loss"))
    ]
    head = ("", "this model", "the other", "difference", "95 % interval")
    yield page.table(head, rows, label="Comparison", kinds="-nnnn")
    yield page.paragraph(
        f"The other is {found['other']}; the figures are of the {found['n']} pairs that both can read. Right alone: "
        f"this model {test['only_first']}, the other "
        f"{test['only_second']}; McNemar's exact test, mid-p: {test['p']:.3g}. The test takes pairs as independent; "
        "the intervals draw whole prompts, and hold where a prompt has several pairs."
    )


def _surprises(surprises: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    yield page.heading("Judgements the model finds least likely")
    if not surprises:
        yield page.paragraph("None: the model agrees with every judgement.")
        return
    yield page.paragraph(
        "Where to look first for slips of annotators, and for what the model has not understood. Probability: that of "
        "the judgement as it was given, at the fitted temperature."
    )
    rows = [
        (
            row["line"],
            number(row["margin"], digits=2),
            number(row["probability"]),
            row["prompt"],
            row["chosen"],
            row["rejected"],
        )
        for row in surprises
    ]
    head = ("line", "margin", "probability", "prompt", "chosen", "rejected")
    yield page.table(head, rows, label="Surprising judgements", kinds="nnnttt")


def _dropped(dropped: Mapping[str, int]) -> str:
    told = [f"{count} {reason.replace('_', ' ')}" for reason, count in dropped.items() if count]
    return f"dropped: {', '.join(told)}" if told else "none dropped"
