"""Train a reward model on groups of responses.

Every response of a prompt is read once and serves all of its pairs (Ouyang et al. 2022, section 3.5); the losses are
those of `losses`, the loop is our own: TRL's RewardTrainer reads every pair's two conversations padded, knows neither
groups, ties, weights nor soft labels, and stays as an oracle in the tests. What it computes on pairs, this computes
(1e-5).

LoRA updates are merged at the end: the result is a plain transformers directory in float32. Several processes share
out every step (`ranks`); the first alone measures and writes.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from rewardmodel import losses
from rewardmodel.card import write_card
from rewardmodel.compute import Compute, resolve_compute, seed_everything
from rewardmodel.contract import TIE_LOSSES, InputError, RewardSpec
from rewardmodel.data import DataError
from rewardmodel.evaluate import reward_margins, summarize_pairs
from rewardmodel.features import read_all, recall_states
from rewardmodel.groups import Group, gather_groups, keep_orders
from rewardmodel.log_probs import find_completions, sum_log_probs
from rewardmodel.models import (
    ModelError,
    create_reward_model,
    load_reward_model,
    load_tokenizer,
    merge_adapters,
    note_template,
    resolve_model,
    save_model,
)
from rewardmodel.progress import Progress
from rewardmodel.ranks import current_ranks, part
from rewardmodel.reading import Rectangle, Row, find_parts, is_encoder, read_rewards, read_states, send
from rewardmodel.rundir import RunDir
from rewardmodel.trackers import find_trackers
from rewardmodel.train.common import (
    Measure,
    TrainingData,
    build_report,
    check_positions,
    encode_splits,
    log_metrics,
    lora_config,
    read_splits,
    read_trained_steps,
    recall,
    record_provenance,
)
from rewardmodel.train.loop import Training, gather_held, keep_weighty, plan_training, train_to_the_end
from rewardmodel.train.qlora import MAIN_MEMORY, check_qlora, choose_reader, find_untrained, note_qlora
from rewardmodel.train.settle import Settled
from rewardmodel.uncertainty import Spread, find_spread, probability_better, save_spread


def run_reward(spec: RewardSpec, *, run: RunDir, progress: Progress) -> dict[str, Any]:
    """Train, save outputs/model and return the report, whose figures are those of the saved model.

    Raises InputError before any training for data or a model that cannot be used, CancelledError when asked to stop.
    """
    if spec.loss == "ratings":
        from rewardmodel.train.ratings import run_ratings

        return run_ratings(spec, run=run, progress=progress)
    ranks = current_ranks()
    started = run.read_status()["started_at"]
    progress.start("loading")
    find_trackers(spec, run=run)
    check_qlora(spec)
    compute = resolve_compute(spec.device, precision=spec.precision, threads=spec.threads)
    seed_everything(spec.seed)
    splits = read_splits(spec)
    base = resolve_model(spec.model)
    reader = choose_reader(spec, base=base, compute=compute)
    tokenizer = load_tokenizer(base)
    data = encode_splits(spec, splits=splits, tokenizer=tokenizer)
    provenance = record_provenance(spec, run=run, data=data, model=base, compute=compute)

    def measure(model: PreTrainedModel, *, phase: str) -> dict[str, Any]:
        margins = reward_margins(model, pairs=data.test.pairs, compute=reader, progress=progress, phase=phase)
        return summarize_pairs(margins, pairs=data.test.pairs)

    target = run.outputs / "model"
    states: torch.Tensor | None = None
    best_step: int | None = None
    if spec.tuning == "head":
        untrained, fit, states = _fit_head(
            spec,
            base=base,
            tokenizer=tokenizer,
            data=data,
            weights=provenance["base_model"]["weights_sha256"],
            compute=compute,
            run=run,
            progress=progress,
            target=target,
        )
    else:
        untrained, best_step, settled = _train(
            spec,
            base=base,
            tokenizer=tokenizer,
            data=data,
            compute=compute,
            reader=reader,
            run=run,
            progress=progress,
            measure=measure,
            target=target,
        )
        fit = {"settled": settled.to_dict()}
    part()
    if not ranks.first:
        return {}
    gc.collect()  # the optimizer and the model, before another model is loaded
    trained = load_reward_model(target, tokenizer=tokenizer, compute=reader)
    if spec.tuning != "head" and spec.laplace == "on":
        fit_posterior(trained, spec=spec, data=data, compute=reader, progress=progress, target=target)
    report = build_report(
        spec,
        data=data,
        compute=compute,
        heldout=measure(trained, phase="evaluating") if states is None else measure_states(trained, states, data=data),
        untrained=untrained,
        steps=fit["head"]["rounds"] if "head" in fit else read_trained_steps(run),
        best_step=best_step,
        started=started,
    )
    report["loss"] = spec.loss
    report["notes"] += [*note_template(tokenizer), *note_qlora(spec, reader=reader, compute=compute)]
    report.update(fit)
    spread = find_spread(target)
    if spread is not None:
        if states is None:
            states = read_all(trained, sequences=list_sides(data), compute=reader, progress=progress)
        report["uncertainty"] = weigh_uncertainty(trained, spread=spread, states=states)
    write_card(target, report=report, provenance=provenance)
    return report


def _train(
    spec: RewardSpec,
    *,
    base: Path,
    tokenizer: Any,
    data: TrainingData,
    compute: Compute,
    reader: Compute,
    run: RunDir,
    progress: Progress,
    measure: Measure,
    target: Path,
) -> tuple[dict[str, Any], int | None, Settled]:
    """Train and save into `target`; what `measure` says of the model before its first step, the best step, and the
    settings."""

    def load(*, packed: bool, compute: Compute) -> Any:
        return create_reward_model(base, tokenizer=tokenizer, compute=compute, seed=spec.seed, packed=packed)

    model = load(packed=spec.tuning == "qlora", compute=compute)
    check_positions(model, max_length=spec.max_length)
    if spec.text_weight and is_encoder(model):
        raise ModelError("text_weight: an encoder writes no text")
    if spec.text_weight and not model.config.get_text_config().tie_word_embeddings:
        raise ModelError("text_weight: this model's output layer is not its embedding, and a reward model has no other")
    untrained = recall(
        run,
        name="untrained",
        make=lambda: measure(find_untrained(model, load=load, reader=reader), phase="measuring the untrained model"),
    )
    adapters = lora_config(spec)
    if adapters is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapters)
    model.eval()
    groups = prepare_groups(spec, data=data)
    settled, groups, steps = plan_training(
        spec, model=model, compute=compute, groups=groups, pairs=data.train.pairs, run=run
    )
    training = RewardTraining(
        model,
        spec=spec,
        settled=settled,
        compute=compute,
        groups=groups,
        steps=steps,
        pad_id=tokenizer.pad_token_id,
        held=gather_held(data.held, settled=settled),
    )
    best_step = train_to_the_end(training, spec=spec, run=run, progress=progress)
    progress.start("saving")
    training.finish()
    if training.ranks.first:
        whole = merge_adapters(model, load_whole=lambda: load(packed=False, compute=MAIN_MEMORY))
        save_model(whole, tokenizer=tokenizer, directory=target)
    return untrained, best_step, settled


def _fit_head(
    spec: RewardSpec,
    *,
    base: Path,
    tokenizer: Any,
    data: TrainingData,
    weights: dict[str, str],
    compute: Compute,
    run: RunDir,
    progress: Progress,
    target: Path,
) -> tuple[dict[str, Any], dict[str, Any], torch.Tensor]:
    """Fit the head on states read once, and save into `target`; the held-out figures before, what the fit found, and
    the states of the held-out sides, which the head does not change.

    weights: hashes of the base model's files.
    """
    from rewardmodel.train import heads

    if current_ranks().several:
        raise InputError("tuning: head runs in one process; start it without accelerate launch")
    model: Any = create_reward_model(base, tokenizer=tokenizer, compute=compute, seed=spec.seed)
    check_positions(model, max_length=spec.max_length)
    sides = recall_states(model, sequences=list_sides(data), weights=weights, compute=compute, progress=progress)
    untrained = recall(run, name="untrained", make=lambda: measure_states(model, sides, data=data))
    groups = prepare_groups(spec, data=data)
    sequences = [ids for group in groups for ids in group.sequences]
    states = recall_states(model, sequences=sequences, weights=weights, compute=compute, progress=progress)
    problem = heads.HeadProblem(spec, groups=groups, states=states)
    run.drop_metrics_after(0)
    progress.start("fitting the head")
    tried: list[heads.Solution] = []

    def report(solution: heads.Solution) -> None:
        tried.append(solution)
        numbers = {
            "loss": problem.mean_loss(solution.loss),
            "accuracy": problem.accuracy(solution.weights),
            "prior": solution.prior,
            "evidence": solution.evidence,
        }
        log_metrics(run, step=len(tried), numbers=numbers)
        progress.check()

    best = heads.fit_head(problem, prior=spec.head_prior, report=report)
    own = problem.unscale(best.weights)
    with torch.no_grad():
        find_parts(model)[1].weight.copy_(own[None].float())
    progress.start("saving")
    save_model(model, tokenizer=tokenizer, directory=target)
    if spec.laplace != "off":
        save_spread(heads.fit_laplace(problem, weights=own, prior=best.prior)[0], directory=target)
    if spec.ensemble:
        spread = heads.fit_ensemble(problem, solution=best, members=spec.ensemble, seed=spec.seed)
        save_spread(spread, directory=target)
    found = {
        "prior": best.prior,
        "evidence": best.evidence,
        "rounds": sum(solution.rounds for solution in tried),
        "training_accuracy": problem.accuracy(best.weights),
    }
    return untrained, {"head": found}, sides


def list_sides(data: TrainingData) -> list[list[int]]:
    """The held-out conversations: the chosen and the rejected one of each pair, by turns."""
    return [[*item.prompt_ids, *side] for item in data.test.pairs for side in (item.chosen_ids, item.rejected_ids)]


@torch.no_grad()
def lead(model: Any, states: torch.Tensor) -> torch.Tensor:
    """What a head gives the first of each two states more than the second: (2 n, d) -> (n,), float32."""
    head = find_parts(model)[1]
    scores = head(states.to(head.weight.device)).squeeze(-1).cpu()
    return scores[::2] - scores[1::2]


def measure_states(model: Any, states: torch.Tensor, *, data: TrainingData) -> dict[str, Any]:
    """Held-out figures from the states of `list_sides`."""
    return summarize_pairs(lead(model, states).tolist(), pairs=data.test.pairs)


def fit_posterior(
    model: Any, *, spec: RewardSpec, data: TrainingData, compute: Compute, progress: Progress, target: Path
) -> None:
    """Keep the posterior of a trained model's head beside it (Daxberger et al. 2021): the prior is the likeliest."""
    from rewardmodel.train import heads

    groups = prepare_groups(spec, data=data)
    sequences = [ids for group in groups for ids in group.sequences]
    states = read_all(model, sequences=sequences, compute=compute, progress=progress)
    problem = heads.HeadProblem(spec, groups=groups, states=states)
    own = find_parts(model)[1].weight.detach().cpu().squeeze(0)
    save_spread(heads.fit_laplace(problem, weights=own, prior=None)[0], directory=target)


def weigh_uncertainty(model: Any, *, spread: Spread, states: torch.Tensor) -> dict[str, Any]:
    """Held-out log loss with the uncertainty of each lead integrated over, beside the one without; and mean std.

    states: of `list_sides`.
    """
    leads = lead(model, states).double()
    std = spread.std_between(states[::2], states[1::2]).double()
    return {
        "kind": spread.kind,
        "log_loss": float(-probability_better(leads, std).log().mean()),
        "log_loss_without": float(-torch.nn.functional.logsigmoid(leads).mean()),
        "mean_std_of_leads": float(std.mean()),
    }


def prepare_groups(spec: RewardSpec, *, data: TrainingData) -> list[Group]:
    """The training groups; judgements that Plackett-Luce cannot use are counted as dropped.

    Raises DataError where none is left, or where every pair weighs nothing.
    """
    pairs = keep_weighty(spec, pairs=data.train.pairs)
    if len(pairs) < len(data.train.pairs):
        data.train.dropped["weightless"] = len(data.train.pairs) - len(pairs)
    groups = gather_groups(pairs)
    if spec.loss == "plackett-luce":
        groups, without = keep_orders(groups, pairs=pairs)
        if without:
            data.train.dropped["without_order"] = without
    if not groups:
        raise DataError(f"data: nothing is left to train on with loss {spec.loss}; dropped {data.train.dropped}")
    return groups


@dataclass(frozen=True)
class Table:
    """The pairs of some groups: sides (pairs, 2) are places among all rewards, the rest (pairs,)."""

    sides: torch.Tensor
    weights: torch.Tensor
    probabilities: torch.Tensor
    margins: torch.Tensor
    tied: torch.Tensor
    length_differences: torch.Tensor


class RewardTraining(Training):
    """Training of a reward model."""

    TALLIES = ("loss", "pairs", "right", "leads", "rewards")
    spec: RewardSpec

    def __init__(self, model: Any, *, spec: RewardSpec, groups: Sequence[Group], **settings: Any) -> None:
        super().__init__(model, spec=spec, groups=groups, **settings)
        self.tie_strength = settle_tie_strength(spec, groups=groups)

    def _read(self, groups: Sequence[Group], *, total: float, pairs: int) -> tuple[torch.Tensor, dict[str, Any]]:
        table = self._tabulate(groups)  # sent ahead: a copy between the passes would make the device wait
        batch = self.build(groups)
        with self.autocast():
            states = read_states(self.model, batch=batch) if self.spec.text_weight else None
            rewards = read_rewards(self.model, batch=batch, states=states)
        loss, differences = self._lose(rewards, table=table, groups=groups, total=total, pairs=pairs)
        if states is not None:
            loss = loss + self.spec.text_weight * self._lose_text(states, batch=batch, groups=groups, pairs=pairs)
        with torch.no_grad():
            count = torch.full_like(loss, len(differences))
            right = torch.where(table.tied, 0.5, (differences.sign() + 1) / 2).sum()
        tallies = {
            "loss": loss, "pairs": count, "right": right, "leads": differences.sum(), "rewards": rewards.mean() * count
        }  # fmt: skip
        return loss, tallies

    def _summarize(self, tallies: Mapping[str, float]) -> dict[str, float]:
        pairs = tallies["pairs"]
        return {
            "accuracy": tallies["right"] / pairs,
            "margin": tallies["leads"] / pairs,
            "mean_reward": tallies["rewards"] / pairs,
        }

    def read_rewards(self, groups: Sequence[Group]) -> torch.Tensor:
        """One reward a response, in the order of the groups, float32."""
        batch = self.build(groups)
        return read_rewards(self.model, batch=batch)

    def _judge(self, groups: Sequence[Group]) -> tuple[int, dict[str, torch.Tensor]]:
        """Log loss (Bradley-Terry's, whatever is trained on) and accuracy, as `evaluate` has them."""
        batch = self.build(groups)
        with self.autocast():
            rewards = read_rewards(self.model, batch=batch)
        sides = self._tabulate(groups).sides
        leads = (rewards[sides[:, 0]] - rewards[sides[:, 1]]).double()
        figures = {"loss": -F.logsigmoid(leads).sum(), "accuracy": ((leads.sign() + 1) / 2).sum()}
        return len(leads), figures

    def _lose_text(
        self, states: torch.Tensor, *, batch: Row | Rectangle, groups: Sequence[Group], pairs: int
    ) -> torch.Tensor:
        """This reading's share of the mean over pairs of -log pi(better response) a token."""
        completions = find_completions(groups, batch=batch, device=self.compute.device)
        weight = find_parts(self.model)[0].get_input_embeddings().weight
        with self.autocast():
            found = sum_log_probs(states, weight=weight, bias=None, completions=completions)
        shares, start = np.zeros(len(found)), 0
        for group in groups:
            for edge in group.edges:
                shares[start + edge.better] += 1 / pairs
            start += len(group.sequences)
        return -(found / completions.lengths * send(shares, device=self.compute.device).float()).sum()

    def _tabulate(self, groups: Sequence[Group]) -> Table:
        lines: list[tuple[float, ...]] = []
        start = 0
        for group in groups:
            lengths = [len(ids) for ids in group.sequences]
            for edge in group.edges:
                weight = 1.0 if self.equal else edge.weight
                longer = lengths[edge.better] - lengths[edge.worse]
                sides = (start + edge.better, start + edge.worse)
                lines.append((*sides, weight, edge.probability, edge.margin, edge.tied, longer))
            start += len(group.sequences)
        values = send(np.asarray(lines, dtype=np.float64), device=self.compute.device)  # (pairs, 7)
        numbers = values[:, 2:].float()
        weights, probabilities, margins, tied, longer_by = numbers.unbind(1)
        return Table(values[:, :2].long(), weights, probabilities, margins, tied.bool(), longer_by)

    def _lose(
        self, rewards: torch.Tensor, *, table: Table, groups: Sequence[Group], total: float, pairs: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """This reading's share of the step's loss, and the leads of its pairs."""
        better, worse = rewards[table.sides[:, 0]], rewards[table.sides[:, 1]]
        differences = better - worse
        orders = self.spec.loss == "plackett-luce"
        if orders:
            loss = sum_orders(rewards, groups=groups, equal=self.equal) / total
        else:
            loss = (table.weights * self._lose_pairs(differences, table=table)).sum() / total
        if self.spec.center_rewards_coefficient:
            centre = losses.centring(better, worse)
            mean = centre.sum() / pairs if orders else (table.weights * centre).sum() / total
            loss = loss + self.spec.center_rewards_coefficient * mean
        if self.spec.length_penalty:
            # A correlation is no sum over pairs: it is taken within what is read at once.
            follows = losses.length_correlation(differences, length_differences=table.length_differences)
            loss = loss + self.spec.length_penalty * follows * (len(differences) / pairs)
        return loss, differences.detach()

    def _lose_pairs(self, differences: torch.Tensor, *, table: Table) -> torch.Tensor:
        soft = losses.smooth_labels(table.probabilities, smoothing=self.spec.label_smoothing)
        tied = table.tied
        if self.spec.loss == "davidson":
            return losses.davidson(differences, tied=tied, tie_strength=self.tie_strength, probabilities=soft)
        if self.spec.loss == "rao-kupper":
            return losses.rao_kupper(differences, tied=tied, tie_strength=self.tie_strength, probabilities=soft)
        return losses.bradley_terry(differences, margins=table.margins, probabilities=soft)

    def _weigh(self, groups: Sequence[Group]) -> float:
        if self.spec.loss == "plackett-luce":
            return math.fsum(1.0 if self.equal else weight for group in groups for _, weight in group.orders)
        return super()._weigh(groups)


def sum_orders(rewards: torch.Tensor, *, groups: Sequence[Group], equal: bool) -> torch.Tensor:
    """The weighted Plackett-Luce losses of all orders of some groups, a scalar."""
    total = rewards.new_zeros(())
    start = 0
    for group in groups:
        own = rewards[start : start + len(group.sequences)]
        for order, weight in group.orders:
            total = total + (1.0 if equal else weight) * losses.plackett_luce(own, order=order)
        start += len(group.sequences)
    return total


def settle_tie_strength(spec: RewardSpec, *, groups: Sequence[Group]) -> float:
    """The spec's, or that at which equal responses tie as often as the training pairs do."""
    if spec.loss not in TIE_LOSSES:
        return 0.0
    if spec.tie_strength is not None:
        return spec.tie_strength
    edges = [edge for group in groups for edge in group.edges]
    share = sum(edge.tied for edge in edges) / len(edges)
    if share == 1:
        raise DataError("data: every training pair is tied; nothing can be learned from that")
    return losses.tie_strength_of(spec.loss, share=share)
