"""Times decode_clip on one core against the floor: the time that libav alone needs.

    python scripts/bench_decode.py [CLIPS_DIR] [--memory 1000]

The floor opens the file, decodes the first frame and all of the sound, and discards both: no colour
conversion, no resizing, no resampling, no digest. Both are timed in turn, in one process.
"""

import argparse
import io
import os
import statistics
from functools import partial
from pathlib import Path

import av
import psutil
from av.stream import Discard
from lib.measuring import mp4_files, times_ms

from serve_app.media.decode import decode_clip
from serve_app.settings import MIB, MediaSettings
from serve_app.types import DecodeOptions

IMAGE_SIZE = 448
ROUNDS = 30
WARM_UP_CLIPS = 100


def floor(data: bytes) -> None:
    with av.open(io.BytesIO(data)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        video.codec_context.thread_type, video.codec_context.thread_count = "NONE", 1
        for packet in container.demux(video, sound):
            if packet.decode() and packet.stream is video:
                video.discard = Discard.all


def decode(data: bytes) -> None:
    decode_clip(data, DecodeOptions(), MediaSettings(), IMAGE_SIZE)


def compare(clips: list[Path]) -> None:
    print(
        f"{'clip':28} {'ours ms':>8} {'(quartiles)':>15} {'floor ms':>9} {'(quartiles)':>15} ratio"
    )
    totals = [0.0, 0.0]
    for path in clips:
        data = path.read_bytes()
        calls = {"ours": partial(decode, data), "floor": partial(floor, data)}
        ours, floors = times_ms(calls, ROUNDS).values()
        medians = [statistics.median(ours), statistics.median(floors)]
        totals = [total + median for total, median in zip(totals, medians, strict=True)]
        row = f"{medians[0]:8.1f} {_quartiles(ours)} {medians[1]:9.1f} {_quartiles(floors)}"
        print(f"{path.name:28} {row} {medians[0] / medians[1]:5.2f}")
    print(f"{'all':28} {totals[0]:8.1f} {totals[1]:25.1f} {totals[0] / totals[1]:21.2f}")


def _quartiles(values_ms: list[float]) -> str:
    low, _, high = statistics.quantiles(values_ms, n=4)
    return f"({low:6.1f}-{high:6.1f})"


def measure_memory(clips: list[Path], num_clips: int) -> None:
    contents = [path.read_bytes() for path in clips]
    before = 0
    for index in range(WARM_UP_CLIPS + num_clips):
        if index == WARM_UP_CLIPS:
            before = psutil.Process().memory_info().rss
        decode(contents[index % len(contents)])
    grown_bytes = psutil.Process().memory_info().rss - before
    print(f"{num_clips} clips: {before / MIB:.1f} MiB before, grew by {grown_bytes / MIB:.2f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="?", help="a folder of mp4 files")
    parser.add_argument("--memory", type=int, default=0, metavar="NUM_CLIPS")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    clips = mp4_files(args.clips)
    if args.memory:
        measure_memory(clips, args.memory)
    else:
        compare(clips)


if __name__ == "__main__":
    main()
