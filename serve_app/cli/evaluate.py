"""emotion-llama evaluate: runs a published protocol or our own; writes a report with scores and figures."""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from serve_app.cli.exit_status import LIMIT_MISSED, SOME_FAILED
from serve_app.cli.target import add_target_arguments
from serve_app.client import Target, open_client
from serve_app.emotions import split_labels
from serve_app.errors import ConfigurationError, InvalidRequestError
from serve_app.types import Parity

if TYPE_CHECKING:
    from serve_app.evaluation.cases import Case, Outcome
    from serve_app.evaluation.dataset import Files

DEMO_SEED = 31_337_000  # the model card's scores are for this seed
DEMO_CLIPS = 300
MIN_DEMO_CLIPS = 9
JUDGE_MODEL = "gpt-3.5-turbo"

ANSWERS, REPLIES, DESCRIPTIONS = ".answers.jsonl", ".judge.jsonl", ".descriptions.csv"
CONFUSION, RELIABILITY = ".confusion.png", ".reliability.png"
SUFFIXES = (ANSWERS, REPLIES, DESCRIPTIONS, CONFUSION, RELIABILITY)  # replace the suffix of --out

OPTIONS: dict[str, dict[str, Any]] = {
    "videos": {"type": Path, "help": "folder with the clips; demo: where to write them"},
    "labels": {
        "type": Path,
        "help": "a CSV with a header (name, label; emer: names, chi_reasons), or MER2023's list",
    },
    "transcripts": {"type": Path, "help": "a CSV (name, sentence)"},
    "features": {"type": Path, "help": "folder with the .npy folders of the challenge"},
    "parity": {"choices": get_args(Parity), "help": "default: the protocol's own"},
    "no_probabilities": {
        "action": "store_true",
        "default": None,
        "help": "only answers, no calibration figures",
    },
    "label_set": {"metavar": "A,B,...", "help": "custom; default: the nine, or the file's"},
    "clips": {"type": int, "help": f"demo: number of clips; default: {DEMO_CLIPS}"},
    "seed": {"type": int, "help": "demo: seed of the clips; emer: seed of the questions"},
    "judge_url": {"help": "emer: an OpenAI-compatible server, up to /v1"},
    "judge_model": {"help": f"default: {JUDGE_MODEL}"},
    "judge_key_env": {"metavar": "NAME", "help": "environment variable with the judge's key"},
    "baseline": {"type": Path, "help": "emer: another system's CSV names,chi_reasons"},
}
_LABELLED = frozenset({"videos", "labels", "transcripts", "parity", "no_probabilities"})
_JUDGED = {"features", "seed", "judge_url", "judge_model", "judge_key_env", "baseline"}
TAKES = {
    "demo": frozenset({"videos", "clips", "seed", "no_probabilities"}),
    "mer2023": _LABELLED | {"features"},
    "mer2024": _LABELLED | {"features"},
    "dfew": _LABELLED,
    "custom": _LABELLED | {"label_set"},
    "emer": _LABELLED - {"no_probabilities"} | _JUDGED,
}
PROTOCOL_NAMES = tuple(TAKES)


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="score a model on a labelled set of clips",
        description="Asks about every clip, many at a time, and writes a report. Started again with "
        "the same --out it continues where it stopped. Exit status: 0 every clip was answered; 3 some were "
        "not; 4 a limit of `demo` was missed.",
    )
    parser.add_argument("protocol", choices=PROTOCOL_NAMES)
    add_target_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="the report, a .json; other files go beside it"
    )
    parser.add_argument("--restart", action="store_true", help="discard an earlier run's answers")
    parser.add_argument(
        "--concurrency", type=int, default=32, help="requests at a time; default: %(default)s"
    )
    # Options that only some protocols take. None means: not given.
    for name, kwargs in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **kwargs)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    _check(args)
    missing = [name for name in ("sklearn", "matplotlib") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} not installed: pip install 'emotion-llama-serve[evaluate]'"
        )
    commands = {"demo": _demo, "emer": _emer}
    return commands.get(args.protocol, _labels)(args)


def _check(args: argparse.Namespace) -> None:
    """Checks what argparse cannot."""
    taken = TAKES[args.protocol]
    for name in OPTIONS:
        if getattr(args, name) is not None and name not in taken:
            raise InvalidRequestError(f"--{name.replace('_', '-')} is not for {args.protocol}")
    if args.concurrency < 1:
        raise InvalidRequestError(f"--concurrency is {args.concurrency}; at least 1")
    if args.out.suffix != ".json" or not args.out.absolute().parent.is_dir():
        raise InvalidRequestError(
            f"--out {args.out}: expected a .json file in a folder that exists"
        )
    given = {name: getattr(args, name) for name in ("labels", "transcripts", "baseline")}
    written = {args.out.resolve(), *(_beside(args, suffix).resolve() for suffix in SUFFIXES)}
    for name, path in given.items():
        if path is not None and path.resolve() in written:
            raise InvalidRequestError(f"--{name} {path} would be overwritten; choose another --out")
    if args.videos is not None and not args.videos.is_dir() and args.protocol != "demo":
        raise InvalidRequestError(f"--videos {args.videos} is not a folder")
    for name in ("videos", "labels") if "labels" in taken else ():
        if getattr(args, name) is None:
            raise InvalidRequestError(f"{args.protocol} needs --{name}")


def _labels(args: argparse.Namespace) -> int:
    from serve_app.evaluation.dataset import make_cases, own_labels
    from serve_app.evaluation.protocols import PROTOCOLS
    from serve_app.evaluation.report import label_report, label_text

    protocol, files = PROTOCOLS[args.protocol], _files(args)
    if args.protocol == "custom":
        named = None if args.label_set is None else split_labels(args.label_set)
        protocol = own_labels(protocol, named, files.labels)
    parity = args.parity or protocol.parity
    cases = make_cases(protocol, files, parity, not args.no_probabilities)
    outcomes = asyncio.run(_run(args, cases))
    report = label_report(protocol, outcomes, parity)
    _finish(args, report)
    print(label_text(report))
    return SOME_FAILED if report["errors"] else 0


def _demo(args: argparse.Namespace) -> int:
    from serve_app.evaluation.demo_report import demo_report, missed_limits, rows_text, unique_cases
    from serve_app.evaluation.demo_rows import make_rows
    from serve_app.evaluation.report import label_text

    seed = DEMO_SEED if args.seed is None else args.seed
    num_clips = DEMO_CLIPS if args.clips is None else args.clips
    if num_clips < MIN_DEMO_CLIPS or seed < 0:
        raise InvalidRequestError(
            f"--clips is {num_clips}, at least {MIN_DEMO_CLIPS}: one of each label; "
            f"--seed is {seed}, at least 0"
        )
    with ExitStack() as stack:
        folder = args.videos or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InvalidRequestError(f"--videos {folder}: {error.strerror}") from error
        print(f"writing clips to {folder} ...", file=sys.stderr, flush=True)
        rows = make_rows(folder, num_clips, seed)
        cases = unique_cases(rows)
        if args.no_probabilities:
            cases = [replace(case, labels=()) for case in cases]
        outcomes = asyncio.run(_run(args, cases))
    report = demo_report(rows, outcomes, seed)
    _finish(args, report)
    print(f"{label_text(report)}\n\n{rows_text(report)}")
    if report["errors"]:
        return SOME_FAILED
    return LIMIT_MISSED if missed_limits(report) else 0


def _emer(args: argparse.Namespace) -> int:
    from serve_app.evaluation import emer
    from serve_app.evaluation.judge import Judge
    from serve_app.evaluation.report import write_report

    judge = None
    if args.judge_url:
        if args.judge_key_env and args.judge_key_env not in os.environ:
            raise InvalidRequestError(f"--judge-key-env: {args.judge_key_env} is not set")
        key = os.environ[args.judge_key_env] if args.judge_key_env else None
        judge = Judge(args.judge_url.rstrip("/"), args.judge_model or JUDGE_MODEL, key)
    elif args.baseline or args.judge_model or args.judge_key_env:
        raise InvalidRequestError("--baseline and --judge-... need --judge-url")
    seed = args.seed or 0
    cases = emer.make_cases(_files(args), args.parity or "reference", seed)
    outcomes = asyncio.run(_run(args, cases))
    emer.write_descriptions(outcomes, _beside(args, DESCRIPTIONS))
    replies = _beside(args, REPLIES)
    report = asyncio.run(emer.emer_report(outcomes, seed, judge, args.baseline, replies))
    write_report(report, args.out)
    print(emer.emer_text(report))
    return SOME_FAILED if report["errors"] else 0


async def _run(args: argparse.Namespace, cases: Sequence["Case"]) -> list["Outcome"]:
    from serve_app.evaluation.runner import identify, run_cases
    from serve_app.evaluation.store import AnswerStore, KeyedLines

    path = _beside(args, ANSWERS)
    if args.restart:
        path.unlink(missing_ok=True)
    target = Target(args.url, args.model, args.dtype, args.concurrency)
    with KeyedLines(path) as lines:
        if args.model is not None:
            store = AnswerStore(lines, _local_answerer(args))
            return await run_cases(lambda: open_client(target), cases, store, args.concurrency)
        async with open_client(target) as client:
            # The server may have another model than last time, or may not be running at all.
            store = AnswerStore(lines, await identify(client, cases))
            return await run_cases(lambda: nullcontext(client), cases, store, args.concurrency)


def _local_answerer(args: argparse.Namespace) -> str:
    """Names the model and precision without starting an engine, which cached answers do not need."""
    from serve_app.checkpoint import read_manifest

    manifest = read_manifest(args.model) or {}
    return f"{manifest.get('sha256')} {args.dtype}"


def _beside(args: argparse.Namespace, suffix: str) -> Path:
    """A file beside the report, with its name and another suffix."""
    path: Path = args.out.with_suffix(suffix)
    return path


def _files(args: argparse.Namespace) -> "Files":
    from serve_app.evaluation.dataset import Files

    return Files(args.videos, args.labels, args.transcripts, args.features)


def _finish(args: argparse.Namespace, report: dict[str, Any]) -> None:
    """Writes the report and its figures."""
    from serve_app.evaluation.figures import draw_confusion, draw_reliability
    from serve_app.evaluation.report import write_report

    report["asked"] = {"model": str(args.model)} if args.model else {"url": args.url}
    write_report(report, args.out)
    name = report["protocol"]["name"]
    draw_confusion(report["scores"]["confusion"], name, _beside(args, CONFUSION))
    if report["calibration"]:
        draw_reliability(report["calibration"], name, _beside(args, RELIABILITY))
