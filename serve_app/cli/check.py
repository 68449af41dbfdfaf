"""emotion-llama check: is a checkpoint directory whole, unchanged, and what was it made from."""

import argparse
import sys
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("check", help="check a checkpoint directory and say what is in it")
    parser.add_argument("directory", type=Path)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from serve_app.check import find_problems
    from serve_app.checkpoint import (
        combine_hashes,
        hash_files,
        read_image_size,
        read_manifest,
    )
    from serve_app.convert.plan import Fate
    from serve_app.convert.report import fate_lines, summary_lines

    read_image_size(args.directory)
    hashes = hash_files(args.directory)
    problems = find_problems(args.directory, hashes)
    manifest = read_manifest(args.directory)
    if manifest is None:
        print(f"{args.directory} has no manifest: what it was made from cannot be told")
    elif "tensors" in manifest:
        fates = [
            Fate(f, t, tuple(s), verdict, note) for f, t, s, verdict, note in manifest["tensors"]
        ]
        for line in (*fate_lines(fates), "", *summary_lines(fates, manifest)):
            print(line)
    print(f"sha256 {combine_hashes(hashes)}  {args.directory}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        print(f"error: {len(problems)} problems; this directory is not served", file=sys.stderr)
        return 1
    print("complete: every tensor is there, in shape, and none is left over")
    return 0
