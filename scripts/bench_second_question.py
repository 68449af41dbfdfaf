"""Times a second question about a clip against the first one, through HTTP and Ray Serve.

    python scripts/bench_second_question.py --model DIR [--clips FOLDER] [--clip-cache-bytes 0]

Every clip is new to the server. Two questions about it follow each other directly, so that a noisy machine
slows both alike; the first one decodes the clip and runs the encoders.
"""

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path

import httpx
from lib.measuring import fresh_clips, median_and_quartiles, mp4_files, without_ray_token
from lib.ports import free_port

from serve_app.serve_config import load_serve_config
from serve_app.server import running_server

QUESTIONS = ("[emotion] What is the emotion expressed?", "[emotion] What does the person feel?")
MAX_TOKENS = 8
NUM_WARM_UP_CLIPS = 5
STAGES = ("decode", "first_token", "total")

Timings = dict[str, float]  # of one request, in ms; `seen` is the client's latency


def ask(http: httpx.Client, clip: Path, question: str) -> Timings:
    body = {
        "video_path": str(clip),
        "question": question,
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
        "details": True,
    }
    started = time.perf_counter()
    response = http.post("/process_video", json=body).raise_for_status()
    seen_ms = (time.perf_counter() - started) * 1e3
    timings: Timings = response.json()["details"]["timings_ms"]
    return timings | {"seen": seen_ms}


def compare(url: str, originals: list[Path], num_clips: int) -> None:
    with tempfile.TemporaryDirectory() as folder, httpx.Client(base_url=url, timeout=60) as http:
        clips = itertools.islice(
            fresh_clips(Path(folder), originals), num_clips + NUM_WARM_UP_CLIPS
        )
        pairs = [[ask(http, clip, question) for question in QUESTIONS] for clip in clips]
    firsts, seconds = zip(*pairs[NUM_WARM_UP_CLIPS:], strict=True)
    print(f"{num_clips} clips; ms, median (quartiles)")
    for stage in ("seen", *STAGES):
        first, second = ([timings[stage] for timings in each] for each in (firsts, seconds))
        print(
            f"  {stage:12} first {median_and_quartiles(first):>20}"
            f"   second {median_and_quartiles(second):>20}"
        )
    ratios = [second["seen"] / first["seen"] for first, second in zip(firsts, seconds, strict=True)]
    print(f"  second / first, clip by clip: {median_and_quartiles(ratios, 2)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/serve.yaml"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--clips", type=Path, help="folder of mp4 files; default: the sample clip")
    parser.add_argument("--num-clips", type=int, default=60)
    parser.add_argument("--clip-cache-bytes", type=int, help="in place of media.clip_cache_bytes")
    args = parser.parse_args()
    without_ray_token()
    config = load_serve_config(args.config, args.model, free_port())
    if args.clip_cache_bytes is not None:
        config.applications[0].args["media"]["clip_cache_bytes"] = args.clip_cache_bytes
    with running_server(config) as url:
        compare(url, mp4_files(args.clips), args.num_clips)
    return 0


if __name__ == "__main__":
    sys.exit(main())
