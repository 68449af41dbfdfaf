"""emotion-llama evaluate: the published protocols and our own, into a report with scores and figures."""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_app.cli.target import add_target_arguments
from serve_app.client import Target, open_client
from serve_app.errors import ConfigurationError, InvalidRequestError

if TYPE_CHECKING:
    from serve_app.evaluation.cases import Case, Outcome
    from serve_app.evaluation.dataset import Files

PROTOCOL_NAMES = ("demo", "mer2023", "mer2024", "dfew", "emer", "custom")
EXIT_SOME_FAILED = 3
EXIT_LIMIT_MISSED = 4
DEMO_SEED = 31_337_000  # the card's
DEMO_CLIPS = 300


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="scores of a model on a labelled set of clips",
        description="Asks about every clip, many at a time, and writes a report. Started again with "
        "the same --out it goes on where it stopped. Exit status: 0; 3 where clips were not answered; "
        "4 where a limit of `demo` is missed.",
    )
    parser.add_argument("protocol", choices=PROTOCOL_NAMES)
    parser.add_argument(
        "--videos", type=Path, help="folder of the clips; demo: where it writes them"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        help="a CSV with a header (name, label; emer: names, chi_reasons), or the lists of MER2023",
    )
    parser.add_argument("--transcripts", type=Path, help="a CSV (name, sentence)")
    parser.add_argument(
        "--features", type=Path, help="folder with the .npy folders of the challenge"
    )
    add_target_arguments(parser)
    parser.add_argument(
        "--parity", choices=("reference", "default"), help="default: the protocol's own; see docs"
    )
    parser.add_argument("--out", type=Path, required=True, help="report.json; others lie beside it")
    parser.add_argument("--restart", action="store_true", help="forget an earlier run's answers")
    parser.add_argument("--concurrency", type=int, default=32, help="default: %(default)s")
    parser.add_argument(
        "--no-probabilities", action="store_true", help="answers alone, no calibration figures"
    )
    custom = parser.add_argument_group("custom")
    custom.add_argument("--label-set", metavar="A,B,...", help="default: the nine, or the file's")
    demo = parser.add_argument_group("demo")
    demo.add_argument("--clips", type=int, default=DEMO_CLIPS, help="default: %(default)s")
    parser.add_argument("--seed", type=int, help="demo: of the clips; emer: of the questions")
    judge = parser.add_argument_group("emer")
    judge.add_argument("--judge-url", help="an OpenAI-compatible server, up to /v1")
    judge.add_argument("--judge-model", default="gpt-3.5-turbo", help="default: %(default)s")
    judge.add_argument("--judge-key-env", metavar="NAME", help="environment variable with its key")
    judge.add_argument("--baseline", type=Path, help="another system's CSV names,chi_reasons")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.concurrency < 1:
        raise InvalidRequestError(f"--concurrency is {args.concurrency}; at least 1")
    if args.out.suffix != ".json" or not args.out.absolute().parent.is_dir():
        raise InvalidRequestError(
            f"--out {args.out}: expected a .json file in a folder that exists"
        )
    missing = [name for name in ("sklearn", "matplotlib") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"{', '.join(missing)} not installed: pip install 'emotion-llama-serve[evaluate]'"
        )
    commands = {"demo": _demo, "emer": _emer}
    return commands.get(args.protocol, _labels)(args)


def _labels(args: argparse.Namespace) -> int:
    from serve_app.evaluation.dataset import make_cases, own_labels
    from serve_app.evaluation.protocols import PROTOCOLS
    from serve_app.evaluation.report import label_report, label_text

    protocol, files = PROTOCOLS[args.protocol], _files(args)
    if args.protocol == "custom":
        named = args.label_set.split(",") if args.label_set else None
        protocol = own_labels(protocol, named, files.labels)
    elif args.label_set:
        raise InvalidRequestError(f"--label-set is for custom; {args.protocol} has its own")
    parity = args.parity or protocol.parity
    cases = make_cases(protocol, files, parity, not args.no_probabilities)
    outcomes = asyncio.run(_run(args, cases))
    report = label_report(protocol, outcomes, parity)
    _finish(args, report)
    print(label_text(report))
    return EXIT_SOME_FAILED if report["errors"] else 0


def _demo(args: argparse.Namespace) -> int:
    from serve_app.evaluation.demo import demo_report, missed_limits, rows_text, unique_cases
    from serve_app.evaluation.demo_rows import make_rows
    from serve_app.evaluation.report import label_text

    if args.labels or args.transcripts or args.features or args.parity:
        raise InvalidRequestError("demo makes its own clips and labels: --videos, --clips, --seed")
    seed = DEMO_SEED if args.seed is None else args.seed
    if args.clips < 1 or seed < 0:
        raise InvalidRequestError(f"--clips is {args.clips}, --seed {seed}; at least 1 and 0")
    with ExitStack() as stack:
        folder = args.videos or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        print(f"writing clips to {folder} ...", file=sys.stderr, flush=True)
        rows = make_rows(folder, args.clips, seed)
        cases = unique_cases(rows)
        if args.no_probabilities:
            cases = [replace(case, labels=()) for case in cases]
        outcomes = asyncio.run(_run(args, cases))
    report = demo_report(rows, outcomes, seed)
    _finish(args, report)
    print(f"{label_text(report)}\n\n{rows_text(report)}")
    if report["errors"]:
        return EXIT_SOME_FAILED
    return EXIT_LIMIT_MISSED if missed_limits(report) else 0


def _emer(args: argparse.Namespace) -> int:
    from serve_app.evaluation import emer
    from serve_app.evaluation.judge import Judge
    from serve_app.evaluation.report import write_report

    judge = None
    if args.judge_url:
        if args.judge_key_env and args.judge_key_env not in os.environ:
            raise InvalidRequestError(f"--judge-key-env: {args.judge_key_env} is not set")
        key = os.environ[args.judge_key_env] if args.judge_key_env else None
        judge = Judge(args.judge_url.rstrip("/"), args.judge_model, key)
    elif args.baseline:
        raise InvalidRequestError("--baseline is scored by a judge: give --judge-url")
    cases = emer.make_cases(_files(args), args.parity or "reference", args.seed or 0)
    outcomes = asyncio.run(_run(args, cases))
    emer.write_descriptions(outcomes, args.out.with_suffix(".csv"))
    report = asyncio.run(emer.emer_report(outcomes, judge, args.baseline))
    write_report(report, args.out)
    print(emer.emer_text(report))
    return EXIT_SOME_FAILED if report["errors"] else 0


async def _run(args: argparse.Namespace, cases: Sequence["Case"]) -> list["Outcome"]:
    from serve_app.evaluation.runner import run_cases
    from serve_app.evaluation.store import AnswerStore

    path = args.out.with_suffix(".answers.jsonl")
    if args.restart:
        path.unlink(missing_ok=True)
    target = Target(args.url, args.model, args.dtype, args.concurrency)
    with AnswerStore(path, _answerer(args)) as store:
        return await run_cases(lambda: open_client(target), cases, store, args.concurrency)


def _answerer(args: argparse.Namespace) -> str:
    """Another model's answers must not pass for this one's."""
    if args.model is None:
        return str(args.url)
    from serve_app.checkpoint import read_manifest

    manifest = read_manifest(args.model) or {}
    return f"{manifest.get('sha256')} {args.dtype}"


def _files(args: argparse.Namespace) -> "Files":
    from serve_app.evaluation.dataset import Files

    for name in ("videos", "labels"):
        if getattr(args, name) is None:
            raise InvalidRequestError(f"{args.protocol} needs --{name}")
    if not args.videos.is_dir():
        raise InvalidRequestError(f"--videos {args.videos} is not a folder")
    return Files(args.videos, args.labels, args.transcripts, args.features)


def _finish(args: argparse.Namespace, report: dict[str, Any]) -> None:
    """The report and its figures."""
    from serve_app.evaluation.figures import draw_confusion, draw_reliability
    from serve_app.evaluation.report import write_report

    write_report(report, args.out)
    name = report["protocol"]["name"]
    draw_confusion(report["scores"]["confusion"], name, args.out.with_suffix(".confusion.png"))
    if report["calibration"]:
        draw_reliability(report["calibration"], name, args.out.with_suffix(".reliability.png"))
