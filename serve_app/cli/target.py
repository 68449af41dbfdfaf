"""Options of commands that ask a server, or an engine that they start themselves."""

import argparse
from pathlib import Path
from typing import get_args

from serve_app.client import DEFAULT_URL, KEY_VARIABLE
from serve_app.types import Dtype


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--url",
        default=DEFAULT_URL,
        help=f"the server, with the API key in {KEY_VARIABLE} if it needs one; default: %(default)s",
    )
    where.add_argument("--model", type=Path, help="run this checkpoint here, without a server")
    parser.add_argument(
        "--dtype",
        choices=get_args(Dtype),
        default="auto",
        help="precision of the engine, with --model; default: the checkpoint's",
    )
