"""Sends every file of a folder through the decode pool: each must become a clip or one of our errors.

    python scripts/check_odd_media.py FOLDER [--frame sharpest]

Prints a table. Fails if a file took longer than the decode timeout, broke the pool, or made its memory grow.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

from lib.measuring import tree_pss_bytes

from serve_app.errors import ServeAppError
from serve_app.media.pool import DecodePool
from serve_app.settings import MIB, MediaSettings
from serve_app.types import Clip, ClipSource, DecodeOptions, FrameChoice

IMAGE_SIZE = 448
GRACE_S = 0.5  # for killing and replacing a worker
MAX_GROWTH_BYTES = 64 * MIB  # of this process and its workers, after the first round


async def check(folder: Path, choice: FrameChoice, num_rounds: int) -> bool:
    settings = MediaSettings(allowed_roots=(folder,), voice=False)
    pool = DecodePool(settings, IMAGE_SIZE)
    limit_s, num_bad, sizes_bytes = settings.decode_timeout_s + GRACE_S, 0, []
    for _ in range(num_rounds):
        for path in sorted(folder.iterdir()):  # noqa: ASYNC240  # nothing else runs in this loop
            started = time.perf_counter()
            outcome, good = await _outcome(pool, path, DecodeOptions(frame=choice))
            took_s = time.perf_counter() - started
            good = good and took_s < limit_s
            num_bad += not good
            print(f"{'' if good else 'BAD':4}{path.name:32} {took_s * 1000:8.1f} ms  {outcome}")
        sizes_bytes.append(tree_pss_bytes().total())
    pool.close()
    grown_bytes = sizes_bytes[-1] - sizes_bytes[0]
    print(f"{num_bad} bad; {sizes_bytes[0] / MIB:.0f} MiB grew by {grown_bytes / MIB:.1f} MiB")
    return num_bad == 0 and grown_bytes < MAX_GROWTH_BYTES


async def _outcome(pool: DecodePool, path: Path, options: DecodeOptions) -> tuple[str, bool]:
    try:
        return _describe(await pool.decode(ClipSource(path=str(path)), options)), True
    except ServeAppError as error:
        return f"{error.status} {error.code}: {error.message}", True
    except Exception as error:  # this is what the script looks for
        return f"LEAKED {type(error).__name__}: {error}", False


def _describe(clip: Clip) -> str:
    num_samples = 0 if clip.waveform is None else len(clip.waveform)
    at = "no picture" if clip.frame_time_s is None else f"picture at {clip.frame_time_s:.2f} s"
    return " ".join([f"clip, {at}, {num_samples} samples", *map(repr, clip.missing + clip.notes)])


def _choice(text: str) -> FrameChoice:
    try:
        return float(text)
    except ValueError:
        return text  # type: ignore[return-value]  # the pool checks it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frame", type=_choice, default="first")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    sys.exit(not asyncio.run(check(args.folder, args.frame, args.rounds)))


if __name__ == "__main__":
    main()
