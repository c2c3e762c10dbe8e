"""Measures the fits of annotation/statistics beside their peers: CPU seconds, peak memory, and whether they agree.

    python3 -m venv var/bench && var/bench/bin/pip install --editable '.[bench]'
    .venv/bin/python benchmarks/statistics.py --peer-python var/bench/bin/python [--check] [--quick] [--json]
        [--only NAME …] [--repeats 5]

The peers (arena-rank, evalica, choix, krippendorff) pin other versions of numpy and bring jax, so that they live in an
environment of their own. Every side of a row runs in a process of its own, with one BLAS and numba thread; the sides
take turns, after one untimed run each, and the medians of their CPU seconds are compared. What a peer needs in another
form (lists of tuples for choix) is prepared before its clock starts. With --check it exits with 1 where a goal is
missed or results differ; --quick has a tenth of the rows and checks results alone. numba (extra `fast`) is needed for
the goals.
"""

# ruff: noqa: E402 (this folder leaves the path before anything imports the standard library's statistics)
from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != FOLDER]
if __name__ == "statistics":  # imported from this folder by somebody who means the standard library's module
    del sys.modules["statistics"]
    import statistics  # noqa: F401

import argparse
import json
import math
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

sys.path.insert(0, str(FOLDER.parent))

ITEMS, LABELS = 200, {"model_a": 1, "model_b": 0, "tie": 0.5}
SAMPLES, LEVEL = 100, 0.95
VALUES, LEVELS = np.arange(1, 6), ("nominal", "ordinal", "interval", "ratio")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
ONE_THREAD = dict.fromkeys(THREADS, "1") | {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Side:
    """One who does a row's work: `prepare` reads the data and returns the work to be timed."""

    prepare: Callable[[Arrays], Callable[[], Arrays]]
    is_peer: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the table. `goals`: by peer, how many times its CPU seconds must be ours. `close`: how far results may
    differ at most, by name."""

    title: str
    data: str
    sides: dict[str, Side]
    goals: dict[str, float]
    close: dict[str, float] = field(default_factory=dict)
    peak_mb: float = math.inf


# --- data -------------------------------------------------------------------------------------------------------------


def draw_votes(rows: int) -> Arrays:
    """Comparisons of ITEMS models with a fifth of ties; four that follow each other share a prompt."""
    rng = np.random.default_rng(1)
    scores = rng.normal(size=ITEMS)
    left = rng.integers(0, ITEMS, rows).astype(np.int32)
    right = ((left + rng.integers(1, ITEMS, rows)) % ITEMS).astype(np.int32)
    won = rng.random(rows) < 1 / (1 + np.exp(scores[right] - scores[left]))
    outcomes = np.where(rng.random(rows) < 0.2, 0.5, won)
    return {"left": left, "right": right, "outcomes": outcomes, "prompt": np.arange(rows) // 4}


def draw_rankings(rows: int) -> Arrays:
    """Rankings of 4 of ITEMS by Plackett–Luce."""
    rng = np.random.default_rng(2)
    scores = rng.normal(size=ITEMS)
    shown = np.concatenate([np.argsort(rng.random((1000, ITEMS)), axis=1)[:, :4] for _part in range(rows // 1000 + 1)])
    shown = shown[:rows]
    order = np.argsort(-(scores[shown] + rng.gumbel(size=shown.shape)), axis=1)
    return {"rankings": np.take_along_axis(shown, order, axis=1)}


def draw_ratings(rows: int) -> Arrays:
    """Ratings 1 to 5 of a quarter as many units by four raters who err, a tenth of them missing (NaN)."""
    rng = np.random.default_rng(3)
    truth = rng.integers(1, 6, (rows // 4, 1))
    ratings = np.clip(truth + rng.integers(-1, 2, (rows // 4, 4)), 1, 5).astype(float)
    ratings[rng.random(ratings.shape) < 0.1] = np.nan
    return {"ratings": ratings}


DATA = {
    "votes": lambda scale: draw_votes(1_000_000 // scale),
    "many votes": lambda scale: draw_votes(10_000_000 // scale),
    "rankings": lambda scale: draw_rankings(166_667 // scale),
    "ratings": lambda scale: draw_ratings(1_000_000 // scale),
}


def frame_of(data: Arrays) -> Any:
    """The votes as a data frame of strings, as LMArena publishes them."""
    import pandas as pd

    names = np.array([f"model-{number:03d}" for number in range(ITEMS)], dtype=object)
    winners = np.array(["model_b", "tie", "model_a"], dtype=object)[(2 * data["outcomes"]).astype(int)]
    columns = {"model_a": names[data["left"]], "model_b": names[data["right"]], "winner": winners}
    return pd.DataFrame(columns).astype("str").assign(prompt=data["prompt"])


# --- ours -------------------------------------------------------------------------------------------------------------


def results_of(fit: Any) -> Arrays:
    errors = {} if fit.covariance is None else {"errors": fit.standard_errors, "bounds": fit.intervals(level=LEVEL)}
    return {"scores": fit.scores} | errors


def ours_from_frame(
    *, clusters: str = "prompt", bootstrap: int = 0, shuffled: bool = False
) -> Callable[[Arrays], Callable[[], Arrays]]:
    def prepare(data: Arrays) -> Callable[[], Arrays]:
        from annotation.statistics import bradley_terry

        frame = frame_of(data)
        frame = frame.sample(frac=1, random_state=0) if shuffled else frame

        def work() -> Arrays:
            fit = bradley_terry.fit(
                frame["model_a"],
                frame["model_b"],
                frame["winner"],
                labels=LABELS,
                clusters=frame[clusters].to_numpy() if clusters else None,
                covariance="none" if bootstrap else "robust",
                bootstrap=bootstrap,
            )
            return {"scores": fit.scores, "bounds": fit.intervals(method="bootstrap")} if bootstrap else results_of(fit)

        return work

    return prepare


def ours_from_codes(*, covariance: str = "robust") -> Callable[[Arrays], Callable[[], Arrays]]:
    def prepare(data: Arrays) -> Callable[[], Arrays]:
        from annotation.statistics import bradley_terry

        columns = data["left"], data["right"], data["outcomes"]
        return lambda: results_of(bradley_terry.fit(*columns, covariance=covariance))

    return prepare


def our_rankings(*, covariance: str) -> Callable[[Arrays], Callable[[], Arrays]]:
    def prepare(data: Arrays) -> Callable[[], Arrays]:
        from annotation.statistics import plackett_luce

        return lambda: results_of(plackett_luce.fit(data["rankings"], covariance=covariance))

    return prepare


def our_alpha(*, counted: bool) -> Callable[[Arrays], Callable[[], Arrays]]:
    def prepare(data: Arrays) -> Callable[[], Arrays]:
        from annotation.statistics.agreement import krippendorff_alpha
        from annotation.statistics.reliability import ReliabilityData

        counts = count_ratings(data["ratings"])

        def work() -> Arrays:
            if counted:
                read = ReliabilityData.from_counts(counts, values=VALUES)
            else:
                read = ReliabilityData.from_table(data["ratings"])
            return {"alpha": np.array([krippendorff_alpha(read, level=level, resamples=0).value for level in LEVELS])}

        return work

    return prepare


# --- peers ------------------------------------------------------------------------------------------------------------


def arena_rank(data: Arrays) -> Callable[[], Arrays]:
    """arena-rank 0.1.1 as its README has it, with its sandwich intervals, scores back on the logarithmic scale."""
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.utils.data_utils import PairDataset

    frame = frame_of(data)

    def work() -> Arrays:
        pairs = PairDataset.from_pandas(frame)
        model = BradleyTerry(n_competitors=len(pairs.competitors))
        found = model.compute_ratings_and_cis(pairs, significance_level=1 - LEVEL)
        scores = (np.asarray(found["ratings"]) - model.init_rating) / model.alpha
        return {"scores": scores - scores.mean(), "errors": np.sqrt(np.asarray(found["variances"])) / model.alpha}

    return work


def evalica(data: Arrays) -> Callable[[], Arrays]:
    from evalica import Winner, bradley_terry

    sides = data["left"].tolist(), data["right"].tolist()
    winners = [(Winner.Y, Winner.Draw, Winner.X)[level] for level in (2 * data["outcomes"]).astype(int).tolist()]

    def work() -> Arrays:
        scores = np.log(bradley_terry(*sides, winners, tolerance=1e-8).scores.sort_index().to_numpy())
        return {"scores": scores - scores.mean()}

    return work


def choix_pairs(data: Arrays) -> Callable[[], Arrays]:
    """choix has no ties: the first of both is given the win, so that only the time can be compared."""
    from choix import ilsr_pairwise

    sides = zip(data["left"].tolist(), data["right"].tolist(), data["outcomes"].tolist(), strict=True)
    pairs = [(one, other) if outcome >= 0.5 else (other, one) for one, other, outcome in sides]
    return lambda: {"times": ilsr_pairwise(ITEMS, pairs)}


def choix_rankings(data: Arrays) -> Callable[[], Arrays]:
    from choix import ilsr_rankings

    rankings = data["rankings"].tolist()

    def work() -> Arrays:
        scores = ilsr_rankings(ITEMS, rankings, tol=1e-8)
        return {"scores": scores - scores.mean()}

    return work


def fastchat(data: Arrays) -> Callable[[], Arrays]:
    """FastChat's compute_bootstrap_bt (fastchat/serve/monitor/rating_systems.py) in one process: unique outcomes with
    their counts, multinomial samples of the counts, L-BFGS for each."""
    import pandas as pd
    from scipy.optimize import minimize
    from scipy.special import expit

    frame = frame_of(data)

    def loss(ratings: np.ndarray, pairs: np.ndarray, outcomes: np.ndarray, weights: np.ndarray) -> Any:
        shown = ratings[pairs]
        chances = expit(shown[:, 0] - shown[:, 1])
        value = -((np.log(chances) * outcomes + np.log(1 - chances) * (1 - outcomes)) * weights).sum()
        slopes, gradient = -(outcomes - chances) * weights, np.zeros_like(ratings)
        np.add.at(gradient, pairs, slopes[:, None] * np.array([1.0, -1.0]))
        return value, gradient

    def work() -> Arrays:
        codes, _names = pd.factorize(pd.concat([frame["model_a"], frame["model_b"]]), sort=True)
        schedule = np.full((len(frame), 3), 1, dtype=np.int32)
        schedule[:, 0], schedule[:, 1] = codes[: len(frame)], codes[len(frame) :]
        schedule[frame["winner"] == "model_a", 2] = 2
        schedule[frame["winner"] == "model_b", 2] = 0
        unique, counts = np.unique(schedule, return_counts=True, axis=0)
        pairs, outcomes = unique[:, :2], unique[:, 2] / 2
        drawn = np.random.default_rng(0).multinomial(len(frame), counts / counts.sum(), size=SAMPLES) / len(frame)
        options = {"maxiter": 100, "gtol": 1e-6}
        samples = np.stack(
            [
                minimize(loss, np.zeros(ITEMS), args=(pairs, outcomes, weights), jac=True, method="L-BFGS-B",
                         options=options).x
                for weights in drawn
            ]
        )  # fmt: skip
        samples -= samples.mean(axis=1, keepdims=True)
        return {"bounds": np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).T}

    return work


def plain_numpy(data: Arrays) -> Callable[[], Arrays]:
    """What one writes down first: two weighted counts by pair, and Newton on the table; no intervals."""
    left, right, outcomes = data["left"], data["right"], data["outcomes"]

    def work() -> Arrays:
        key = left.astype(np.int64) * ITEMS + right
        wins = np.bincount(key, weights=outcomes, minlength=ITEMS**2).reshape(ITEMS, ITEMS)
        met = np.bincount(key, minlength=ITEMS**2).reshape(ITEMS, ITEMS)
        wins, met = wins + (met - wins).T, met + met.T
        scores = np.zeros(ITEMS)
        for _step in range(50):
            chances = 1 / (1 + np.exp(scores[None, :] - scores[:, None]))
            weights = met * chances * (1 - chances)
            step = np.linalg.solve(np.diag(weights.sum(axis=1)) - weights + 1, (wins - met * chances).sum(axis=1))
            scores += step
            if np.abs(step).max() < 1e-9:
                break
        return {"scores": scores - scores.mean()}

    return work


def krippendorff(data: Arrays) -> Callable[[], Arrays]:
    """The fast form of the package, from counts."""
    from krippendorff import alpha

    counts = count_ratings(data["ratings"])

    def work() -> Arrays:
        found = [alpha(value_counts=counts, value_domain=VALUES, level_of_measurement=level) for level in LEVELS]
        return {"alpha": np.array(found)}

    return work


def count_ratings(ratings: np.ndarray) -> np.ndarray:
    """How many raters gave a unit (row) a value (column); made before the clock starts."""
    return np.stack([(ratings == value).sum(axis=1) for value in VALUES], axis=1)


ROWS = {
    "strings": Row(
        "BT with ties and intervals, 1,000,000 × 200, from a data frame of strings",
        data="votes",
        sides={
            "ours, clustered by prompt": Side(ours_from_frame()),
            "the same, prompts in random order": Side(ours_from_frame(shuffled=True)),
            "ours, every vote for itself": Side(ours_from_frame(clusters="")),
            "arena-rank 0.1.1": Side(arena_rank, is_peer=True),
        },
        goals={"arena-rank 0.1.1": 40},
        close={"scores": 1e-5, "errors": 0.02},
    ),
    "codes": Row(
        "BT with ties, 1,000,000 × 200, from integer codes",
        data="votes",
        sides={
            "ours": Side(ours_from_codes(covariance="none")),
            "ours, with intervals": Side(ours_from_codes()),
            "evalica": Side(evalica, is_peer=True),
            "choix ilsr_pairwise": Side(choix_pairs, is_peer=True),
        },
        goals={"evalica": 40, "choix ilsr_pairwise": 250},
        close={"scores": 1e-5},
    ),
    "bootstrap": Row(
        "BT with 100 bootstrap samples, 1,000,000 × 200, from a data frame of strings",
        data="votes",
        sides={
            "ours": Side(ours_from_frame(clusters="", bootstrap=SAMPLES)),
            "FastChat's method": Side(fastchat, is_peer=True),
        },
        goals={"FastChat's method": 20},
        close={"bounds": 0.05},
    ),
    "many": Row(
        "BT with ties and intervals, 10,000,000 × 200, from integer codes",
        data="many votes",
        sides={"ours": Side(ours_from_codes()), "np.bincount + Newton, no intervals": Side(plain_numpy)},
        goals={"np.bincount + Newton, no intervals": 2},
        close={"scores": 1e-8},
        peak_mb=1024,
    ),
    "rankings": Row(
        "Plackett–Luce, 166,667 rankings of 4 among 200",
        data="rankings",
        sides={
            "ours": Side(our_rankings(covariance="none")),
            "ours, with intervals": Side(our_rankings(covariance="robust")),
            "choix ilsr_rankings": Side(choix_rankings, is_peer=True),
        },
        goals={"choix ilsr_rankings": 50},
        close={"scores": 1e-6},
    ),
    "alpha": Row(
        "Krippendorff's α at four levels, 1,000,000 ratings",
        data="ratings",
        sides={
            "ours, from counts": Side(our_alpha(counted=True)),
            "ours, from ratings": Side(our_alpha(counted=False)),
            "krippendorff, from counts": Side(krippendorff, is_peer=True),
        },
        goals={"krippendorff, from counts": 2.5},
        close={"alpha": 1e-9},
    ),
}


# --- running ----------------------------------------------------------------------------------------------------------


class Worker:
    """A process that does the work of one side of a row whenever it is told to."""

    def __init__(self, row: str, *, side: str, data: Path, python: str) -> None:
        self.results = data.with_name(f"{row} {list(ROWS[row].sides).index(side)}.npz")
        command = [python, __file__, "--worker", row, side, str(data), str(self.results)]
        environment = os.environ | ONE_THREAD
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.times: list[float] = []
        self.peak_mb, self.failure = 0.0, ""

    def run(self, *, timed: bool) -> None:
        """Have the work done once; keep the CPU seconds if it counts."""
        if self.failure:
            return
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            _out, errors = self.process.communicate()
            self.failure = errors.strip().splitlines()[-1] if errors.strip() else "it stopped"
            return
        said = json.loads(answer)
        self.peak_mb = said["peak_mb"]
        if timed:
            self.times.append(said["cpu"])

    def stop(self) -> Arrays:
        """End the process; what it found last."""
        if not self.failure:
            self.process.communicate("")
        return dict(np.load(self.results)) if self.results.exists() else {}

    @property
    def median(self) -> float:
        return float(np.median(self.times)) if self.times else math.nan


def work(row: str, side: str, data: str, results: str) -> None:
    """Do the work of one side for every line of the standard input."""
    task = ROWS[row].sides[side].prepare(dict(np.load(data)))
    for _line in sys.stdin:
        start = time.process_time()
        found = task()
        cpu = time.process_time() - start
        np.savez(results, **found)
        print(
            json.dumps({"cpu": cpu, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), flush=True
        )


def measure(name: str, *, options: argparse.Namespace, data: Path) -> list[dict[str, Any]]:
    """The sides of a row in turns; one line for each of them."""
    row = ROWS[name]
    workers = {
        side: Worker(name, side=side, data=data, python=options.peer_python if made.is_peer else sys.executable)
        for side, made in row.sides.items()
    }
    for turn in range(options.repeats + 1):
        for worker in workers.values():
            worker.run(timed=turn > 0)
    found = {side: worker.stop() for side, worker in workers.items()}
    first = next(iter(workers))
    lines = []
    for side, worker in workers.items():
        goal = row.goals.get(side)
        ratio = worker.median / workers[first].median
        gaps = {
            key: gap_between(found[first][key], found[side][key], relative=key == "errors")
            for key in row.close
            if side != first and key in found[first] and key in found[side]
        }
        wider = math.sqrt(10) if options.quick else 1  # a tenth of the rows has intervals as much wider
        missed = [f"{key} differ by {gap:.2g}" for key, gap in gaps.items() if not gap <= row.close[key] * wider]
        if goal is not None and not ratio >= goal and not options.quick:
            missed.append(f"{goal:g} × wanted")
        if side == first and worker.peak_mb > row.peak_mb:
            missed.append(f"at most {row.peak_mb:g} MB wanted")
        if worker.failure:
            missed.append(worker.failure)
        lines.append(
            {
                "row": name, "title": row.title, "side": side, "cpu_s": round(worker.median, 5),
                "ratio": round(ratio, 2), "goal": goal, "peak_mb": round(worker.peak_mb),
                "gaps": {key: float(f"{gap:.2g}") for key, gap in gaps.items()}, "missed": missed,
            }
        )  # fmt: skip
    return lines


def gap_between(ours: np.ndarray, theirs: np.ndarray, *, relative: bool) -> float:
    """The largest difference of any entry."""
    return float(np.abs(ours / theirs - 1 if relative else ours - theirs).max())


def study_coverage(*, data_sets: int) -> dict[str, float]:
    """How often 95 % intervals hold the truth: rankings of 4 of 10 items, 400 in a data set, and annotators who differ.

    The last two figures have 40 annotators of 10 rankings each, whose tastes differ: there only a cluster by annotator
    is honest.
    """
    from annotation.statistics import bradley_terry, plackett_luce
    from annotation.statistics.pairs import pairs_of_tiers

    rng, covered = np.random.default_rng(4), {}
    truth = rng.normal(size=10)
    truth -= truth.mean()
    annotator = np.arange(400) // 10
    for _data_set in range(data_sets):
        for kind, spread in (("", 0.0), (", annotators who differ", 0.8)):
            taste = truth + spread * rng.normal(size=(40, 10))
            shown = np.argsort(rng.random((400, 10)), axis=1)[:, :4]
            utility = taste[annotator[:, None], shown] + rng.gumbel(size=shown.shape)
            ranks = np.argsort(np.argsort(-utility, axis=1), axis=1) + 1
            order = np.take_along_axis(shown, np.argsort(-utility, axis=1), axis=1)
            pairs = pairs_of_tiers(ranks, items=shown)
            rows = pairs.left, pairs.right, pairs.outcomes
            fits = {
                "six independent pairs": bradley_terry.fit(*rows),
                "pairs clustered by ranking": bradley_terry.fit(*rows, clusters=pairs.ranking),
                "pairs clustered by annotator": bradley_terry.fit(*rows, clusters=annotator[pairs.ranking]),
                "Plackett–Luce": plackett_luce.fit(order),
                "Plackett–Luce clustered by annotator": plackett_luce.fit(order, clusters=annotator),
            }
            for method, fit in fits.items():
                # Under tastes that differ the model's own truth is a little nearer to 0; a scale is taken off.
                aim = truth * (fit.scores @ truth) / (truth @ truth) if spread else truth
                bounds = fit.intervals()
                covered.setdefault(method + kind, []).append(np.mean((bounds[:, 0] <= aim) & (aim <= bounds[:, 1])))
    return {method: round(float(np.mean(shares)), 4) for method, shares in covered.items()}


def study_few_clusters(*, data_sets: int) -> dict[str, float]:
    """How often the 95 % interval of an item's difference holds the truth, the item being judged on few prompts.

    A and B are compared ten times on each of 40 prompts, E with A ten times on k others; all are equally good, and each
    prompt favours one side by a normal log odds of variance 1.
    """
    from annotation.statistics import bradley_terry

    rng, found = np.random.default_rng(5), {}
    for k in (2, 3, 5, 10, 30):
        prompt = np.repeat(np.arange(40 + k), 10)
        left, right = np.zeros(len(prompt), dtype=int), np.where(prompt < 40, 1, 2)
        held = []
        for _data_set in range(data_sets):
            won = rng.random(len(prompt)) < 1 / (1 + np.exp(-rng.normal(size=40 + k)[prompt]))
            fit = bradley_terry.fit(left, right, won, items=range(3), clusters=prompt)
            held.append(abs(fit.differences[0, 2]) < 1.96 * fit.difference_errors[0, 2])
        found[f"an item on {k} of {40 + k} prompts, clustered by prompt"] = round(float(np.mean(held)), 4)
    return found


COVERAGE_GOALS = {"pairs clustered by ranking": (0.93, 0.97), "Plackett–Luce": (0.93, 0.97)}


def print_lines(lines: list[dict[str, Any]]) -> None:
    title = ""
    for line in lines:
        if line["title"] != title:
            title = line["title"]
            print(f"\n{title}")
        against = "" if line["ratio"] == 1 else f"{line['ratio']:8.2f} ×"
        goal = f"goal {line['goal']:g} ×" if line["goal"] else ""
        gaps = ", ".join(f"{key} within {gap:g}" for key, gap in line["gaps"].items())
        missed = f"  MISSED: {'; '.join(line['missed'])}" if line["missed"] else ""
        figures = f"{line['cpu_s']:9.4f} s {against:>10}  {goal:12} {line['peak_mb']:5} MB"
        print(f"  {line['side']:36} {figures}  {gaps}{missed}")


def main() -> int:
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
        return 0
    if sys.argv[1:2] == ["--draw"]:
        kind, path, scale = sys.argv[2:]
        np.savez(path, **DATA[kind](int(scale)))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="the Python that has the peers")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a goal is missed or results differ")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, 2 repeats; speed is not judged")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[*ROWS, "coverage"], default=[*ROWS, "coverage"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.repeats = 2
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        for name in (name for name in ROWS if name in options.only):
            data = Path(directory) / f"{ROWS[name].data}.npz"
            if not data.exists():  # drawn by a process of its own: what this one has held would count as a child's peak
                command = [
                    sys.executable,
                    __file__,
                    "--draw",
                    ROWS[name].data,
                    str(data),
                    "10" if options.quick else "1",
                ]
                subprocess.run(command, check=True)
            lines += measure(name, options=options, data=data)
            if not options.json:
                print_lines(lines[-len(ROWS[name].sides) :])
    missed = [f"{line['row']}, {line['side']}: {reason}" for line in lines for reason in line["missed"]]
    data_sets = 100 if options.quick else 1000
    coverage = study_coverage(data_sets=data_sets) if "coverage" in options.only else {}
    for method, (low, high) in COVERAGE_GOALS.items():
        if coverage and not options.quick and not low <= coverage[method] <= high:
            missed.append(f"{method}: covers {coverage[method]}")
    if coverage:
        coverage |= study_few_clusters(data_sets=data_sets)
    if options.json:
        print(json.dumps({"rows": lines, "coverage": coverage, "missed": missed}))
    elif coverage:
        print("\n95 % intervals hold the truth")
        for method, share in coverage.items():
            print(f"  {method:60} {100 * share:6.2f} %")
    if missed:
        print("Missed: " + "\n        ".join(missed), file=sys.stderr)
    return 1 if missed and options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
