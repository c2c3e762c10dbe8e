"""The command line: train, run, pipeline, evaluate, evaluate-policy, score, average, generate, verify, advise.

Exit codes: 0 done, 1 failed, 2 bad spec, data or model, 3 another process works on the directory, 4 cancelled,
5 a gate of a pipeline does not hold.
The progress bar goes to stderr, results to stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import FrameType
from typing import Any

from rewardmodel.contract import (
    EMBEDDED_MODEL,
    AdviseSpec,
    GenerateSpec,
    InputError,
    Spec,
    SpecError,
    parse_spec,
    spec_to_dict,
)
from rewardmodel.documents import read_document
from rewardmodel.jobs import EXIT_CODES, resolve_paths, run_job
from rewardmodel.ranks import joined_ranks
from rewardmodel.rundir import ObservedRun, RunDir, RunDirBusyError, write_json, write_json_lines, write_text


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. argv: the arguments after the program's name."""
    arguments = build_parser().parse_args(argv)
    # Read by GNU OpenMP when torch loads it: how long a waiting thread spins before it sleeps. By default (300,000) two
    # runs on one machine slow each other down more than tenfold; with this a run alone is 2 % slower (docs/LOG.md).
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        return arguments.command(arguments)
    except InputError as error:
        print(f"rewardmodel: {error}", file=sys.stderr)
        return 2
    except RunDirBusyError as error:
        print(f"rewardmodel: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("rewardmodel: interrupted", file=sys.stderr)
        return 4


def build_parser() -> argparse.ArgumentParser:
    """The parser; each command carries its function as `command`."""
    parser = argparse.ArgumentParser(prog="rewardmodel", description="Reward models and policies from preferences.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train (or run any other spec) in a new run directory")
    train.add_argument("spec", type=Path, help="YAML or JSON file")
    train.add_argument("--run-dir", type=Path, help="default: runs/METHOD-TIME")
    _add_unsafe(train)
    train.set_defaults(command=_train)

    run = commands.add_parser("run", help="run or resume the spec.json in a run directory")
    run.add_argument("run_dir", type=Path)
    _add_unsafe(run)
    run.set_defaults(command=_run)

    pipeline = commands.add_parser("pipeline", help="stages that take each other's models, with gates between them")
    pipeline.add_argument("spec", type=Path, help="YAML or JSON file")
    pipeline.add_argument("--dir", type=Path, required=True, help="a new directory, or one to go on in")
    pipeline.add_argument("--json", action="store_true", help="one JSON object on the last line")
    _add_unsafe(pipeline)
    pipeline.set_defaults(command=_pipeline)

    _add_evaluate(commands)
    _add_evaluate_policy(commands)

    score = commands.add_parser("score", help="a reward model's scores of rows {prompt, response}")
    _add_model_arguments(score, data="DATA.jsonl")
    score.add_argument("--out", type=Path, required=True)
    score.add_argument(
        "--uncertainty", action="store_true", help="also std, and the chance to beat its prompt's others"
    )
    score.add_argument(
        "--with", dest="others", action="append", default=[], metavar="MODEL",
        help="score by this reward model too: mean and std of all; may be repeated",
    )  # fmt: skip
    score.set_defaults(command=_score)

    average = commands.add_parser("average", help="one reward model of the mean weights of several (WARM)")
    average.add_argument("models", nargs="+", metavar="MODEL", help="reward models trained from the same base")
    average.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="the directory to write")
    average.set_defaults(command=_average)

    generate = commands.add_parser("generate", help="responses of a policy to rows {prompt}")
    _add_model_arguments(generate, data="PROMPTS.jsonl")
    generate.add_argument("--out", type=Path, required=True)
    generate.add_argument("--n", type=int, default=1, help="responses a prompt")
    generate.add_argument("--max-new-tokens", type=int, default=128)
    generate.add_argument("--temperature", type=float, default=0.9, help="0: greedy")
    generate.add_argument("--top-p", type=float, default=0.95)
    generate.add_argument("--seed", type=int, default=0)
    generate.set_defaults(command=_generate)

    _add_verify(commands)
    _add_advise(commands)
    return parser


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="a reward model on held-out pairs {prompt, chosen, rejected}")
    _add_model_arguments(evaluate, data="DATA.jsonl")
    evaluate.add_argument("--compare", metavar="MODEL", help="another reward model, on the same pairs")
    evaluate.add_argument(
        "--slice", action="append", default=[], metavar="FIELD", help="also accuracy by this column; may be repeated"
    )
    evaluate.add_argument(
        "--sections", type=Path, metavar="FILE", help="JSON {section: [subset, …]} in place of RewardBench's"
    )
    evaluate.add_argument(
        "--robustness-pairs", type=int, default=100, metavar="N", help="pairs scored again in other forms; 0: none"
    )
    evaluate.add_argument("--card", action="store_true", help="put the figures into the model's card (README.md)")
    _add_report_arguments(evaluate)
    evaluate.set_defaults(command=_evaluate)


def _add_evaluate_policy(commands: Any) -> None:
    policy = commands.add_parser("evaluate-policy", help="a policy beside its reference, by a held-out reward model")
    _add_model_arguments(policy, data="PROMPTS.jsonl")
    policy.add_argument("--reference", required=True, metavar="MODEL", help="what the policy was trained from")
    policy.add_argument("--reward-model", required=True, metavar="MODEL", help="the judge; not the one trained against")
    policy.add_argument("--n", type=int, default=2, help="responses a prompt")
    policy.add_argument("--max-new-tokens", type=int, default=128)
    policy.add_argument("--temperature", type=float, default=1.0, help="1 with top-p 1: the KL is the policy's own")
    policy.add_argument("--top-p", type=float, default=1.0)
    policy.add_argument("--seed", type=int, default=0)
    _add_report_arguments(policy)
    policy.set_defaults(command=_evaluate_policy)


def _add_verify(commands: Any) -> None:
    verify = commands.add_parser("verify", help="whether responses are right, by program: {prompt, response, verifier}")
    verify.add_argument("data", metavar="DATA.jsonl", type=Path)
    verify.add_argument("--out", type=Path, metavar="FILE", help="the rows, each with its verdict, as JSONL")
    verify.add_argument("--json", action="store_true", help="one JSON object on the last line")
    verify.add_argument("--workers", type=int, help="processes that check; unset: one a core")
    verify.add_argument("--reward-model", metavar="MODEL", help="the model of verifiers of kind reward")
    verify.add_argument(
        "--allow-python", action="append", default=[], metavar="NAME[=MODULE:FUNCTION]",
        help="a verifier of kind python that rows may name: an installed one, or this function; may be repeated",
    )  # fmt: skip
    _add_unsafe(verify)
    verify.set_defaults(command=_verify)


def _add_unsafe(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--unsafe-without-sandbox", action="store_true",
        help="run model-written code even where nothing isolates it: it can read, write and send what you can",
    )  # fmt: skip


def _add_advise(commands: Any) -> None:
    advise = commands.add_parser("advise", help="which method fits some data, and why: SFT, RFT or RLHF")
    advise.add_argument("data", metavar="FILE", type=Path, nargs="+", help="prompts, labelled rows, preferences: JSONL")
    advise.add_argument("--model", metavar="MODEL", help="try whether thinking aloud helps this policy")
    advise.add_argument("--trial-prompts", type=int, default=64, metavar="N", help="prompts of that trial")
    advise.add_argument("--max-new-tokens", type=int, default=256, help="longest answer of that trial")
    advise.add_argument(
        "--threshold", action="append", default=[], metavar="NAME=NUMBER", help="where an answer turns; may be repeated"
    )
    advise.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    advise.add_argument("--threads", type=int, help="CPU threads of torch")
    advise.add_argument("--seed", type=int, default=0, help="of the draw of rows that verifiers are tried on")
    advise.add_argument("--json", action="store_true", help="one JSON object on the last line")
    advise.set_defaults(command=_advise)


def _add_report_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="one JSON object on the last line")
    command.add_argument("--html", type=Path, metavar="FILE", help="a report in one file")
    command.add_argument("--out", type=Path, metavar="DIR", help="figures and rows as JSON and JSONL")


def _add_model_arguments(command: argparse.ArgumentParser, *, data: str) -> None:
    command.add_argument("model", metavar="MODEL", help=f"{EMBEDDED_MODEL}, a directory, or a hub id")
    command.add_argument("data", metavar=data, type=Path)
    command.add_argument("--batch-size", type=int, default=32)
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    command.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    command.add_argument("--threads", type=int, help="CPU threads of torch")


def read_spec_file(path: Path) -> Spec:
    """The spec in a YAML or JSON file, its relative paths taken from the working directory.

    Raises SpecError for a file that is missing, not YAML, or no valid spec.
    """
    mapping = read_file(path)
    try:
        return resolve_paths(parse_spec(mapping), base=Path.cwd())
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def read_file(path: Path) -> Any:
    """What a YAML or JSON file says. Raises SpecError naming it where it is missing or neither."""
    try:
        return read_document(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not valid YAML or JSON: {error}") from None
    except SpecError as error:
        raise SpecError(f"{path} is {error}") from None


def _train(arguments: argparse.Namespace) -> int:
    spec = read_spec_file(arguments.spec)
    directory = arguments.run_dir or Path("runs") / f"{spec.method}-{time.strftime('%Y%m%d-%H%M%S')}"
    with joined_ranks() as ranks:
        path = ranks.from_first(lambda: RunDir(directory).create(spec_to_dict(spec)).path)
        run = RunDir(path) if ranks.first else ObservedRun(path)
        return _run_in(run, unsafe_code=arguments.unsafe_without_sandbox)


def _run(arguments: argparse.Namespace) -> int:
    with joined_ranks() as ranks:
        run = RunDir(arguments.run_dir) if ranks.first else ObservedRun(arguments.run_dir)
        run.read_spec()
        return _run_in(run, unsafe_code=arguments.unsafe_without_sandbox)


def _run_in(run: RunDir, *, unsafe_code: bool) -> int:
    with _cancelled_by_signals(run):
        outcome = run_job(run, unsafe_code=unsafe_code)
    if isinstance(run, ObservedRun):
        return EXIT_CODES[outcome]
    status = run.read_status()
    if outcome == "succeeded":
        print(json.dumps(run.read_report(), ensure_ascii=False, indent=1))
        print(f"succeeded: {run.path}", file=sys.stderr)
    else:
        print(f"rewardmodel: {status['state']}: {status['error'] or status['message']}", file=sys.stderr)
    return EXIT_CODES[outcome]


def _pipeline(arguments: argparse.Namespace) -> int:
    from rewardmodel.pipeline import EXIT_HELD, render_state, run_in_process, run_pipeline
    from rewardmodel.stages import parse_pipeline

    mapping = read_file(arguments.spec)
    try:
        pipeline = parse_pipeline(mapping)
    except SpecError as error:
        raise SpecError(f"{arguments.spec}: {error}") from None

    def carry_out(run: RunDir) -> str:
        print(f"rewardmodel: {run.path.name}", file=sys.stderr)
        with _cancelled_by_signals(run):
            return run_in_process(run, unsafe_code=arguments.unsafe_without_sandbox)

    told = run_pipeline(pipeline, directory=arguments.dir, base=Path.cwd(), carry_out=carry_out)
    print(json.dumps(told, ensure_ascii=False) if arguments.json else render_state(told))
    if told["message"]:
        print(f"rewardmodel: {told['state']}: {told['message']}", file=sys.stderr)
    return EXIT_HELD if told["state"] == "held" else EXIT_CODES[told["state"]]


@contextlib.contextmanager
def _cancelled_by_signals(run: RunDir) -> Iterator[None]:
    """SIGTERM and SIGINT ask the run to stop; a second SIGINT stops it at once, without a checkpoint."""

    def ask(number: int, frame: FrameType | None) -> None:
        run.request_cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.robustness_pairs < 0:
        raise InputError(f"--robustness-pairs: must be at least 0, got {arguments.robustness_pairs}")
    from rewardmodel.evaluation.card_section import render_section, write_section
    from rewardmodel.evaluation.report import render_report
    from rewardmodel.evaluation.reward_models import Settings, examine_reward_model
    from rewardmodel.models import resolve_model
    from rewardmodel.progress import Progress

    with Progress() as progress:
        found = examine_reward_model(
            arguments.model,
            data=arguments.data,
            compare=arguments.compare,
            settings=Settings(
                slices=tuple(arguments.slice),
                sections=arguments.sections,
                robustness_pairs=arguments.robustness_pairs,
            ),
            device=arguments.device,
            precision=arguments.precision,
            threads=arguments.threads,
            batch_size=arguments.batch_size,
            progress=progress,
        )
    figures = found.figures
    if arguments.html:
        write_text(arguments.html, render_report(figures, surprises=found.surprises))
    if arguments.out:
        write_json(arguments.out / "figures.json", figures)
        write_json_lines(arguments.out / "surprises.jsonl", found.surprises)
        write_json_lines(arguments.out / "margins.jsonl", found.margins)
        write_text(arguments.out / "card.md", render_section(figures))
    if arguments.card:
        write_section(resolve_model(arguments.model) / "README.md", figures=figures)
    if arguments.json:
        print(json.dumps(figures, ensure_ascii=False))
    else:
        low, high = figures["interval"]
        print(f"accuracy {figures['accuracy']:.3f} ({low:.3f} to {high:.3f}) on {figures['n']} pairs")
        print(f"longer response wins: {figures['baselines']['longer_wins']['accuracy']:.3f}")
    return _print_warnings(figures)


def _evaluate_policy(arguments: argparse.Namespace) -> int:
    spec = GenerateSpec(
        prompts=str(arguments.data),
        model=arguments.model,
        **{
            name: getattr(arguments, name)
            for name in ("n", "max_new_tokens", "temperature", "top_p", "batch_size", "seed")
        },
    )
    from rewardmodel.evaluation.policies import examine_policy
    from rewardmodel.evaluation.policy_report import render_policy_report
    from rewardmodel.generate import read_sampling
    from rewardmodel.progress import Progress

    with Progress() as progress:
        found = examine_policy(
            arguments.model,
            prompts=arguments.data,
            reference=arguments.reference,
            reward_model=arguments.reward_model,
            sampling=read_sampling(spec),
            device=arguments.device,
            precision=arguments.precision,
            threads=arguments.threads,
            progress=progress,
        )
    figures = found.figures
    if arguments.html:
        write_text(arguments.html, render_policy_report(figures, samples=found.samples))
    if arguments.out:
        write_json(arguments.out / "figures.json", figures)
        write_json_lines(arguments.out / "samples.jsonl", found.samples)
    if arguments.json:
        print(json.dumps(figures, ensure_ascii=False))
    else:
        bounds = figures["interval"]
        told = f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else ""
        print(f"win rate {figures['win_rate']:.3f}{told} on {figures['prompts']} prompts")
        print(f"at equal lengths: {figures['length_controlled']['win_rate']:.3f}")
    return _print_warnings(figures)


def _print_warnings(figures: dict[str, Any]) -> int:
    for warning in figures["warnings"]:
        print(f"rewardmodel: {warning}", file=sys.stderr)
    return 0


def _score(arguments: argparse.Namespace) -> int:
    from rewardmodel.data import read_responses
    from rewardmodel.progress import Progress
    from rewardmodel.reading import describe_attributes
    from rewardmodel.score import load_scorer, score_texts

    items = read_responses(arguments.data)
    if arguments.others:
        return _score_together(arguments, items=items)
    model, tokenizer, compute = load_scorer(
        arguments.model, device=arguments.device, precision=arguments.precision, threads=arguments.threads
    )
    if arguments.uncertainty or describe_attributes(model) is not None:
        return _score_fully(arguments, items=items, model=model, tokenizer=tokenizer, compute=compute)
    with Progress() as progress:
        scores = score_texts(
            model,
            tokenizer=tokenizer,
            conversations=[[*item.prompt, *item.response] for item in items],
            compute=compute,
            batch_size=arguments.batch_size,
            progress=progress,
        )
    rows = [{**item.row, "score": score} for item, score in zip(items, scores, strict=True)]
    write_json_lines(arguments.out, rows)
    unread = scores.count(None)
    if unread:
        print(
            f"rewardmodel: {unread} of {len(rows)} are longer than the model reads; score null",
            file=sys.stderr,
        )
    return 0


def _score_together(arguments: argparse.Namespace, *, items: Sequence[Any]) -> int:
    if arguments.uncertainty:
        raise InputError("--uncertainty is what one model keeps; with several (--with) the std is their spread")
    from rewardmodel.ensembles import score_together
    from rewardmodel.progress import Progress

    with Progress() as progress:
        found = score_together(
            [arguments.model, *arguments.others],
            conversations=[[*item.prompt, *item.response] for item in items],
            device=arguments.device,
            precision=arguments.precision,
            threads=arguments.threads,
            batch_size=arguments.batch_size,
            progress=progress,
        )
    write_json_lines(arguments.out, [{**item.row, **row} for item, row in zip(items, found, strict=True)])
    unread = sum(row["score"] is None for row in found)
    if unread:
        print(f"rewardmodel: {unread} of {len(found)} are longer than a model reads; score null", file=sys.stderr)
    return 0


def _average(arguments: argparse.Namespace) -> int:
    from rewardmodel.ensembles import average_models

    print(average_models(arguments.models, target=arguments.out))
    return 0


def _score_fully(
    arguments: argparse.Namespace, *, items: Sequence[Any], model: Any, tokenizer: Any, compute: Any
) -> int:
    from rewardmodel.chat import encode_conversation
    from rewardmodel.models import read_positions, resolve_model
    from rewardmodel.progress import Progress
    from rewardmodel.score import score_fully
    from rewardmodel.uncertainty import find_spread

    spread = find_spread(resolve_model(arguments.model)) if arguments.uncertainty else None
    if arguments.uncertainty and spread is None:
        raise InputError(f"{arguments.model} keeps no uncertainty; train with laplace: on, or with tuning: head")
    sequences = [encode_conversation(tokenizer, messages=[*item.prompt, *item.response]) for item in items]
    limit = read_positions(model)
    readable = [i for i, ids in enumerate(sequences) if limit is None or len(ids) <= limit]
    with Progress() as progress:
        found = score_fully(
            model,
            spread=spread,
            prompts=[json.dumps(items[i].prompt, sort_keys=True) for i in readable],
            sequences=[sequences[i] for i in readable],
            compute=compute,
            batch_size=arguments.batch_size,
            progress=progress,
        )
    nothing = {"score": None, **({"std": None, "beats_others": None} if arguments.uncertainty else {})}
    known = dict(zip(readable, found, strict=True))
    write_json_lines(arguments.out, [{**item.row, **known.get(i, nothing)} for i, item in enumerate(items)])
    return 0


def _generate(arguments: argparse.Namespace) -> int:
    names = [item.name for item in fields(GenerateSpec) if item.name != "prompts"]
    spec = GenerateSpec(prompts=str(arguments.data), **{name: getattr(arguments, name) for name in names})
    from rewardmodel.data import read_prompts
    from rewardmodel.generate import generate_responses, load_generator, read_sampling
    from rewardmodel.progress import Progress

    items = read_prompts(arguments.data)
    model, tokenizer, compute = load_generator(spec)
    with Progress() as progress:
        responses = generate_responses(
            model,
            tokenizer=tokenizer,
            prompts=[item.prompt for item in items],
            sampling=read_sampling(spec),
            compute=compute,
            progress=progress,
        )
    write_json_lines(
        arguments.out,
        [
            {**items[response.prompt].row, **response.to_row(prompt_id=items[response.prompt].prompt_id)}
            for response in responses
        ],
    )
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    if arguments.workers is not None and arguments.workers < 1:
        raise InputError(f"--workers: must be at least 1, got {arguments.workers}")
    from rewardmodel.progress import Progress
    from rewardmodel.verifiers.functions import allow_functions
    from rewardmodel.verifiers.registry import Permissions, require_sandbox
    from rewardmodel.verifiers.rows import read_items, summarize_verdicts, verify_items

    permissions = Permissions(
        functions=allow_functions(tuple(arguments.allow_python)),
        reward_model=arguments.reward_model,
        unsafe_code=arguments.unsafe_without_sandbox,
    )
    started = time.perf_counter()
    items = read_items(arguments.data, permissions=permissions)
    with Progress() as progress:
        verdicts = verify_items(items, permissions=permissions, workers=arguments.workers, progress=progress)
    if arguments.out:
        rows = [{**item.row, "verdict": asdict(verdict)} for item, verdict in zip(items, verdicts, strict=True)]
        write_json_lines(arguments.out, rows)
    figures = summarize_verdicts(items, verdicts=verdicts, seconds=time.perf_counter() - started)
    if not require_sandbox((item.verifier for item in items), unsafe=permissions.unsafe_code):
        figures["isolated"] = False
        print("rewardmodel: code was run without isolation", file=sys.stderr)
    if arguments.json:
        print(json.dumps(figures, ensure_ascii=False))
    else:
        low, high = figures["interval"]
        print(f"{figures['passed']} of {figures['total']} pass ({low:.3f} to {high:.3f})")
        for kind, counts in figures["by_kind"].items():
            print(f"{kind}: {counts['passed']} of {counts['total']}")
    return 0


def _advise(arguments: argparse.Namespace) -> int:
    from rewardmodel.advisor import Thresholds
    from rewardmodel.evidence import advise_on, read_project, render_advice
    from rewardmodel.progress import Progress

    spec = AdviseSpec(
        data=str(arguments.data[0]),
        **{name: getattr(arguments, name) for name in ("model", "trial_prompts", "max_new_tokens", "seed")},
        device=arguments.device,
        threads=arguments.threads,
        **asdict(Thresholds.parse(dict(map(_read_threshold, arguments.threshold)))),
    )
    with Progress() as progress:
        advice = advise_on(read_project(arguments.data), spec=spec, progress=progress)
    print(json.dumps(advice.to_dict(), ensure_ascii=False) if arguments.json else render_advice(advice))
    return 0


def _read_threshold(text: str) -> tuple[str, Any]:
    name, _sign, number = text.partition("=")
    try:
        return name, json.loads(number)
    except ValueError:
        raise InputError(f"--threshold {text}: expected NAME=NUMBER, as in many=5000") from None
