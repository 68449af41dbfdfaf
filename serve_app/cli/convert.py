"""emotion-llama convert: converts the published downloads into one checkpoint directory."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from serve_app.errors import CheckpointError, ConfigurationError

DTYPE_CHOICES = ("fp16", "bf16", "fp32")


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "convert", help="turn the published downloads into one checkpoint directory"
    )
    parser.add_argument("--llama", type=Path, required=True, help="folder Llama-2-7b-chat-hf")
    parser.add_argument("--eva", type=Path, required=True, help="file eva_vit_g.pth")
    parser.add_argument("--hubert", type=Path, required=True, help="folder chinese-hubert-large")
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="file such as Emoation_LLaMA.pth"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to create")
    parser.add_argument(
        "--dtype", choices=DTYPE_CHOICES, default="fp16", help="default: %(default)s, as published"
    )
    parser.add_argument(
        "--keep-lora", action="store_true", help="do not merge LoRA; write it as a PEFT adapter"
    )
    parser.add_argument("--lora-alpha", type=float, help="default: 16, as published")
    parser.add_argument(
        "--lora-r",
        type=int,
        help="refuse tensors of another rank; default: accept any (published: 64)",
    )
    parser.add_argument("--image-size", type=int, help="px; default: dims.json beside EVA, or 448")
    parser.add_argument("--eva-heads", type=int, help="default: dims.json, or channels / 88")
    parser.add_argument("--eva-blocks", type=int, help="default: dims.json, or the original's 39")
    parser.add_argument(
        "--allow-unknown",
        action="store_true",
        help="list tensors that have no place in the model instead of refusing them",
    )
    parser.add_argument(
        "--sha256", type=Path, help="file of sha256sum lines; inputs with other hashes are refused"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from serve_app.convert.config import Geometry
    from serve_app.convert.convert import PUBLISHED_LORA_ALPHA, Options, convert
    from serve_app.convert.downloads import Paths
    from serve_app.convert.report import fate_lines, summary_lines

    paths = Paths(args.llama, args.eva, args.hubert, args.checkpoint)
    options = Options(
        dtype=args.dtype,
        lora_alpha=PUBLISHED_LORA_ALPHA if args.lora_alpha is None else args.lora_alpha,
        lora_rank=args.lora_r,
        keep_lora=args.keep_lora,
        allow_unknown=args.allow_unknown,
        geometry=Geometry(args.image_size, args.eva_heads, args.eva_blocks),
        trusted_sha256=_read_sums(args.sha256) if args.sha256 else frozenset(),
    )
    try:
        report = convert(paths, args.out, options)
    except CheckpointError as error:  # not printed with its title, which is about checkpoints
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    for line in (*fate_lines(report.fates), "", *summary_lines(report.fates, report.about)):
        print(line)
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
    if report.problems:
        print(f"error: nothing was written; {len(report.problems)} problems", file=sys.stderr)
        return 1
    print(f"wrote {args.out}, sha256 {report.sha256}")
    return 0


def _read_sums(path: Path) -> frozenset[str]:
    """The hashes in a file of lines as sha256sum prints them."""
    try:
        hashes = frozenset(re.findall(r"^[0-9a-f]{64}(?= )", path.read_text(), re.MULTILINE))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--sha256 {path} cannot be read: {error}") from error
    if not hashes:
        raise ConfigurationError(f"--sha256 {path} holds no line in the format of sha256sum")
    return hashes
