"""emotion-llama check: verifies that a checkpoint directory is complete and unchanged; prints its origin."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("check", help="check a checkpoint directory and say what is in it")
    parser.add_argument("directory", type=Path)
    parser.add_argument(
        "--write-manifest",
        action="store_true",
        help="if the directory has none: trust its files as they are, provided its tensors are complete",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from serve_app.check import check_tensors, find_problems
    from serve_app.checkpoint import (
        combine_hashes,
        hash_files,
        read_image_size,
        read_manifest,
        write_manifest,
    )
    from serve_app.convert.report import origin_lines

    directory = args.directory
    read_image_size(directory)  # raises if this is not a checkpoint at all
    if args.write_manifest and read_manifest(directory) is None and not check_tensors(directory):
        write_manifest(directory, {"made_by": "check --write-manifest"})
    hashes = hash_files(directory)
    problems = find_problems(directory, hashes)
    for line in origin_lines(read_manifest(directory)):
        print(line)
    print(f"sha256 {combine_hashes(hashes)}  {directory}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        print(f"error: {len(problems)} problems; this directory is not served", file=sys.stderr)
        return 1
    print("complete: every tensor is there with the right shape, and none is left over")
    return 0
