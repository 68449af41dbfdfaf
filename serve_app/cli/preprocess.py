"""emotion-llama preprocess: decodes a clip once, into the picture and the waveform that the model takes."""

import argparse
import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_app.cli.values import name_or_seconds
from serve_app.errors import InvalidRequestError

if TYPE_CHECKING:
    from serve_app.types import Clip, DecodeOptions

DEFAULT_IMAGE_SIZE = 448  # pixels; the released checkpoint's
MAX_IMAGE_SIZE = 4096  # pixels; more than any model takes


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("preprocess", help="decode a clip into an npz, to ask about later")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="CLIP.npz")
    parser.add_argument("--frame", default="first", help="first, middle, sharpest or a time in s")
    parser.add_argument("--audio-mode", choices=("clean", "reference"), default="clean")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--image-size", type=int, default=DEFAULT_IMAGE_SIZE, help="in pixels")
    size.add_argument("--model", type=Path, help="take the image size from this checkpoint")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from serve_app.media.preprocessed import write_preprocessed
    from serve_app.types import DecodeOptions

    if not args.out.name or args.out.is_dir():
        raise InvalidRequestError(f"--out {args.out} is not the name of a file")
    if not args.out.parent.is_dir():
        raise InvalidRequestError(f"--out {args.out}: the folder {args.out.parent} does not exist")
    options = DecodeOptions(frame=name_or_seconds(args.frame), audio_mode=args.audio_mode)
    clip = asyncio.run(_decode(str(args.clip.resolve()), options, _image_size(args)))
    write_preprocessed(clip, args.out)
    print(f"{args.out}: {_describe(clip)}")
    return 0


def _image_size(args: argparse.Namespace) -> int:
    from serve_app.checkpoint import read_image_size

    size: int = read_image_size(args.model) if args.model else args.image_size
    if not 1 <= size <= MAX_IMAGE_SIZE:
        raise InvalidRequestError(f"--image-size is {size}; expected 1 to {MAX_IMAGE_SIZE}")
    return size


async def _decode(path: str, options: "DecodeOptions", image_size: int) -> "Clip":
    """Decodes in a worker process, under the same limits as in a server."""
    from serve_app.media.pool import DecodePool
    from serve_app.settings import MediaSettings
    from serve_app.types import ClipSource

    encoded = MediaSettings().containers  # not npz: there is nothing to decode in it
    settings = MediaSettings().without_roots(containers=encoded, num_decode_workers=1, voice=False)
    pool = DecodePool(settings, image_size)
    try:
        return await pool.decode(ClipSource(path=path), options)
    finally:
        await asyncio.to_thread(pool.close)


def _describe(clip: "Clip") -> str:
    frame = "no image"
    if clip.frame is not None:
        frame = f"image {clip.frame.shape} of {clip.frame_time_s:.2f} s"
    waveform = "no waveform" if clip.waveform is None else f"waveform {clip.waveform.shape}"
    missing = ", ".join(clip.missing) or "nothing"
    return (
        f"{frame}, {waveform}, {clip.audio_mode} audio, clip of {clip.duration_s:.2f} s, "
        f"missing {missing}, sha256 {clip.sha256}, content {clip.content_sha256}"
    )
