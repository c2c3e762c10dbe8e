"""What stands in a page: text stays text, nothing is fetched, nothing runs."""

import re
from html.parser import HTMLParser

from rewardmodel.data import Pair
from rewardmodel.evaluation.card_section import BEGIN, END, render_section, write_section
from rewardmodel.evaluation.page import interval, number
from rewardmodel.evaluation.plots import draw_accuracies, draw_histogram
from rewardmodel.evaluation.report import render_report
from rewardmodel.evaluation.surprises import list_surprises

SCRIPT = '<script>alert("x")</script>'


def figures(**changes: object) -> dict:
    """The least figures that a page needs, with a script wherever a name can stand."""
    calibration = {
        "bins": [
            {"n": 20, "low": 0.5, "high": 0.6, "confidence": 0.55, "accuracy": 0.5, "interval": [0.3, 0.7]},
            {"n": 20, "low": 0.6, "high": 0.9, "confidence": 0.7, "accuracy": 0.8, "interval": [0.6, 0.9]},
        ],
        "ece": 0.05,
        "ece_interval": [0.0, 0.1],
        "ece_if_calibrated": 0.12,
        "rms_error": 0.0,
        "temperature": {
            "value": 1.2,
            "interval": [0.8, None],
            "log_loss_before": 0.6,
            "log_loss_after": 0.59,
            "ece_after": 0.04,
        },
    }
    accuracy = {"n": 20, "accuracy": 0.65, "interval": [0.5, 0.8]}
    return {
        "model": f"runs/{SCRIPT}",
        "data": f"{SCRIPT}.jsonl",
        "data_sha256": "0" * 64,
        "n": 40,
        "n_prompts": 20,
        "accuracy": 0.65,
        "interval": [0.5, 0.8],
        "interval_by_prompt": [0.45, 0.85],
        "log_loss": 0.6,
        "brier": 0.2,
        "baselines": {"longer_wins": {"accuracy": 0.55, "interval": [0.4, 0.7]}},
        "dropped": {"too_long": 1},
        "device": "cpu",
        "precision": "fp32",
        "calibration": calibration,
        "length": {
            "shorter_chosen": accuracy,
            "longer_chosen": accuracy,
            "equal": 0,
            "balanced": {"accuracy": 0.6, "interval": [0.4, 0.7]},
            "regression": {
                "margin": 0.9,
                "margin_interval": [0.2, 1.6],
                "length": 0.1,
                "length_interval": [-0.2, 0.4],
                "margin_counts": True,
                "log_loss": 0.6,
            },
        },
        "margins": {"mean": 0.3, "sd": 1.0, "edges": [-1.0, 0.0, 1.0, 2.0], "counts": [10, 20, 10]},
        "slices": [{"by": SCRIPT, "rows": [{"label": SCRIPT, **accuracy}], "ceiling": 0.9}],
        "robustness": {
            "forms": [
                {
                    "name": SCRIPT,
                    "n": 5,
                    "flips": 0.2,
                    "flips_interval": [0.0, 0.6],
                    "chosen_shift": 0.1,
                    "rejected_shift": -0.1,
                    "accuracy_before": 0.6,
                    "accuracy": 0.6,
                    "left_out": {"unchanged": 2},
                }
            ],
            "order": {"n": 5, "largest_difference": 0.0},
        },
        "sections": {
            "mean": 0.6,
            "interval": None,
            "missing": [SCRIPT],
            "sections": [{"name": SCRIPT, "accuracy": 0.6, "subsets": [{"label": SCRIPT, "weight": 1.0, **accuracy}]}],
            "incomplete": 0,
        },
        "warnings": [SCRIPT],
        **changes,
    }


def surprises() -> list[dict]:
    pair = Pair(
        prompt=[{"role": "user", "content": SCRIPT}],
        chosen=[{"role": "assistant", "content": SCRIPT + "</td></table>"}],
        rejected=[{"role": "assistant", "content": '"><img src=x onerror=alert(1)>'}],
        prompt_id="p",
        margin=None,
        line=3,
    )
    return list_surprises([-1.0], pairs=[pair])


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, list]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, attrs))
        if tag not in ("meta", "line", "circle", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, attrs))


def test_a_script_in_any_name_or_text_stays_text() -> None:
    page = render_report(figures(), surprises=surprises())
    tags = Tags(page)
    assert tags.open == []
    assert {tag for tag, _ in tags.seen} & {"script", "img", "link", "iframe", "a", "form"} == set()
    assert not [name for _, attrs in tags.seen for name, _ in attrs if name.startswith("on") or name in ("src", "href")]
    assert page.count("&lt;script&gt;") >= 10
    assert "url(" not in page
    assert "@import" not in page


def test_the_page_reads_in_both_schemes_and_on_a_phone() -> None:
    page = render_report(figures(), surprises=[])
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert "None: the model agrees with every judgement." in page


def test_figures_that_are_not_known_are_dashes() -> None:
    assert number(None) == "–"
    assert interval(None) == "–"
    assert interval([-0.5, None], digits=1) == "−0.5 to ∞"


def test_a_histogram_parts_its_colours_at_zero() -> None:
    drawn = draw_histogram([-1.0, 0.0, 1.0], counts=[3, 4], label="margin")
    assert re.findall(r'class="(bar(?: other)?)"', drawn) == ["bar other", "bar"]


def test_a_long_label_is_cut_in_the_plot() -> None:
    row = {"label": "x" * 60, "n": 3, "accuracy": 0.5, "interval": [0.1, 0.9]}
    assert f"{'x' * 37}…" in draw_accuracies([row], overall=0.5)


def test_the_section_of_a_card_takes_the_place_of_an_older_one(tmp_path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# Mine\n\nText.\n")
    write_section(card, figures=figures())
    write_section(card, figures=figures(accuracy=0.7))
    text = card.read_text()
    assert text.startswith("# Mine\n\nText.\n\n" + BEGIN)
    assert (text.count(BEGIN), text.count(END)) == (1, 1)
    assert "| accuracy | 0.700 | 0.450 to 0.850 |" in text
    assert render_section(figures(robustness=None)).count("flips") == 0
