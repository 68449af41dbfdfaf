"""emotion-llama batch: reads a manifest of rows and writes a file with one record for each."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from serve_app.bundled import DEMO_CHECKPOINT
from serve_app.cli.exit_status import SOME_FAILED
from serve_app.cli.requests import OPTIONS
from serve_app.cli.values import name_or_seconds
from serve_app.emotions import split_labels
from serve_app.errors import InvalidRequestError
from serve_app.types import Dtype, Task

if TYPE_CHECKING:
    from serve_app.settings import AppSettings

NOT_OF_ROWS = ("features",)  # OPTIONS that `batch` defines itself: here --features is a folder


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "batch",
        help="answer a manifest of thousands of rows; an interrupted job can be resumed",
        description="Exit status: 0 every row was answered; 3 the output is complete, but some rows have "
        "errors; 2 the command or its input is wrong, and nothing was started; 1 the model or the "
        "installation cannot be used, or the job failed (--resume continues it).",
    )
    parser.add_argument(
        "--input",
        required=True,
        help="folder or glob of clips; .csv, .jsonl or .parquet with the columns video, question or task, "
        "transcript, id, labels, frame, features; or OpenAI's batch .jsonl. A path, or a URI that "
        "pyarrow can open",
    )
    parser.add_argument("--output", required=True, metavar="OUT", help="a .jsonl or .parquet")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--question", help="for rows without a question or task of their own")
    asked.add_argument(
        "--task",
        choices=get_args(Task),
        help="for the same rows; emotion: label and probabilities, reason: an explanation",
    )
    parser.add_argument("--labels", metavar="A,B,...", help="for task emotion; default: the nine")
    parser.add_argument("--features", metavar="DIR", help="folder with STEM.npz for each clip")
    parser.add_argument("--model", type=Path, help="checkpoint; default: the config's, or the demo")
    parser.add_argument("--config", type=Path, help="a serve.yaml: its args are the settings")
    parser.add_argument(
        "--dtype",
        choices=get_args(Dtype),
        help="precision of the engines; default: the config's, or the checkpoint's; for the demo float32",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue where an earlier run stopped"
    )
    parser.add_argument(
        "--max-error-rate", type=float, default=1.0, metavar="0..1", help="end the job above it"
    )
    parser.add_argument("--report", type=Path, metavar="R.json", help="write the summary there")
    where = parser.add_argument_group("where it runs")
    where.add_argument(
        "--address", help="a running Ray cluster; default: RAY_ADDRESS, or start one"
    )
    where.add_argument(
        "--concurrency",
        type=int,
        help="rows in one engine at a time; default: 1.5 x max_num_seqs",
    )
    where.add_argument("--num-engines", type=int, help="default: one for each GPU, or one")
    where.add_argument(
        "--num-decoders", type=int, help="decode actors; default: as many as engines"
    )
    options = parser.add_argument_group("options of every row's request")
    for name, kwargs in OPTIONS.items():
        if name not in NOT_OF_ROWS:
            options.add_argument(f"--{name.replace('_', '-')}", **kwargs)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from serve_app.batch.storage import check_installed

    _check(args)
    check_installed()
    from serve_app.batch.job import run_job
    from serve_app.batch.options import Defaults, Job

    labels = None if args.labels is None else split_labels(args.labels)
    given = {name: getattr(args, name) for name in OPTIONS if name not in NOT_OF_ROWS}
    options = {name: value for name, value in given.items() if value is not None}
    if "frame" in options:
        options["frame"] = name_or_seconds(options["frame"])
    summary = run_job(
        Job(
            args.input,
            args.output,
            _settings(args),
            Defaults(args.question, args.task, labels, args.features, options),
            args.resume,
            args.max_error_rate,
            args.concurrency,
            args.num_engines,
            args.num_decoders,
            args.address or os.environ.get("RAY_ADDRESS"),
        )
    )
    if args.report is not None:
        args.report.write_text(json.dumps(summary, indent=1) + "\n")
    print(_describe(summary), file=sys.stderr)
    return SOME_FAILED if summary["num_errors"] else 0


def _check(args: argparse.Namespace) -> None:
    """Checks what argparse cannot."""
    for name in ("concurrency", "num_engines", "num_decoders"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InvalidRequestError(f"--{name.replace('_', '-')} is {value}; at least 1")
    if not 0 <= args.max_error_rate <= 1:
        raise InvalidRequestError(f"--max-error-rate is {args.max_error_rate}; 0 to 1")
    if args.report is not None and not args.report.absolute().parent.is_dir():
        raise InvalidRequestError(f"--report {args.report}: its folder does not exist")


def _settings(args: argparse.Namespace) -> "AppSettings":
    """A server's settings, but any file may be read: callers of a batch read their own files."""
    from serve_app.settings import AppSettings, EngineSettings

    if args.config is not None:
        from serve_app.serve_config import app_settings, load_serve_config

        settings = app_settings(load_serve_config(args.config, args.model))
    else:
        # Leaves one core to the decoders.
        threads = max(1, len(os.sched_getaffinity(0)) - 1)
        engine = EngineSettings(num_cpu_threads=threads, max_num_batched_tokens=2048)
        settings = AppSettings(model=args.model or DEMO_CHECKPOINT, engine=engine)
    own_dtype = "float32" if args.model is None and args.config is None else None
    dtype = args.dtype or own_dtype or settings.engine.dtype
    media = settings.media.without_roots(voice=bool(args.voice))
    engine = settings.engine.model_copy(update={"dtype": dtype})
    changes = {"media": media, "engine": engine, "model": settings.model.resolve()}
    return settings.model_copy(update=changes)


def _describe(summary: dict[str, Any]) -> str:
    errors = ", ".join(f"{code} {count}" for code, count in summary["errors"].items())
    rate = summary["rows_per_s"]
    return "  ".join(
        [
            f"{summary['output']}: {summary['num_rows']} rows",
            f"{summary['num_errors']} errors" + (f" ({errors})" if errors else ""),
            f"{summary['num_resumed']} done before",
            f"{summary['elapsed_s']:.1f} s",
            *([] if rate is None else [f"{rate:.1f} rows/s"]),
        ]
    )
