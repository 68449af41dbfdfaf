"""`make bench`: requests/s and latency through HTTP and Ray Serve, against the bare engine.

The bare engine is the same decode pool feeding the same Engine class in this process, without Ray or HTTP.
Both are up at once and take turns in short rounds, so that a noisy machine slows both alike. Every request
has a clip of its own (the sample plus a counter in a `free` box), so that no cache answers.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

from serve_app.bundled import SAMPLE
from serve_app.local import LocalPipeline
from serve_app.serve_config import app_settings, load_serve_config
from serve_app.server import running_server
from serve_app.types import AnswerRequest, ClipSource, Sampling

QUESTION = "[emotion] What is the emotion expressed in this video?"
SAMPLING = Sampling(temperature=0, max_tokens=32)
STAGES = ("decode", "queue", "first_token", "total")

Ask = Callable[[Path], Awaitable[dict[str, float]]]  # a clip -> its timings in ms


def fresh_clips(folder: Path, originals: list[Path]) -> Iterator[Path]:
    """Endless distinct copies of the originals, each with a counter appended in a `free` box."""
    for number, original in enumerate(itertools.cycle(originals)):
        path = folder / f"{number}.mp4"
        path.write_bytes(original.read_bytes() + struct.pack(">I4sQ", 16, b"free", number))
        yield path


async def one_round(ask: Ask, clips: list[Path], num_clients: int) -> tuple[float, list[Any]]:
    """requests/s, and per request its latency in ms and the server's timings."""
    waiting = iter(clips)
    results: list[Any] = []

    async def client() -> None:
        for clip in waiting:
            started = time.perf_counter()
            timings = await ask(clip)
            results.append(((time.perf_counter() - started) * 1e3, timings))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(num_clients)))
    return len(clips) / (time.perf_counter() - started), results


async def compare(
    systems: dict[str, Ask], clips: Iterator[Path], num_clients: int, num_rounds: int, size: int
) -> dict[str, Any]:
    """Medians over interleaved rounds: {"http": {"rate": ..., "p50": ..., ...}, "bare": {...}}."""
    rates: dict[str, list[float]] = {name: [] for name in systems}
    results: dict[str, list[Any]] = {name: [] for name in systems}
    cpu_used: dict[str, Counter[str]] = {name: Counter() for name in systems}
    for number in range(num_rounds + 1):
        for name, ask in systems.items():
            before = cpu_ms()
            rate, requests = await one_round(ask, list(itertools.islice(clips, size)), num_clients)
            if number > 0:  # the first round warms up
                rates[name].append(rate)
                results[name].extend(requests)
                cpu_used[name].update(cpu_ms() - before)
    ratios = [http / bare for http, bare in zip(rates["http"], rates["bare"], strict=True)]
    print(f"\n{num_clients} client(s), {num_rounds} rounds of {size} requests each")
    for name in systems:
        stages = ", ".join(
            f"{stage} {statistics.median(t[stage] for _, t in results[name]):.0f}"
            for stage in STAGES
        )
        p50 = statistics.median(latency for latency, _ in results[name])
        print(
            f"  {name:5} {spread(rates[name])} requests/s   p50 {p50:.0f} ms   (median ms: {stages})"
        )
        per_request = {
            process: used / len(results[name]) for process, used in cpu_used[name].most_common()
        }
        shares = ", ".join(f"{process} {ms:.0f}" for process, ms in per_request.items() if ms >= 1)
        print(f"        CPU ms a request: {sum(per_request.values()):.0f} ({shares})")
    print(f"  ratio http / bare, round by round: {spread(ratios)}")
    return {
        "ratio": statistics.median(ratios),
        "p50": {
            name: statistics.median(latency for latency, _ in results[name]) for name in systems
        },
    }


def cpu_ms() -> Counter[str]:
    """CPU time so far, in ms, of this process and all below it: Ray, the replicas and both engines."""
    used: Counter[str] = Counter()
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            # ray::ServeReplica:app:Name and ray::Actor.method: the part that does not change.
            name = process.name().removeprefix("ray::").rsplit(":", 1)[-1].split(".")[0]
            decodes = "multiprocessing.forkserver" in " ".join(process.cmdline())
            times = process.cpu_times()
            used["decode workers" if decodes else name] += round((times.user + times.system) * 1e3)
    return used


def spread(values: list[float]) -> str:
    """median (min-max)."""
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


async def bench(url: str, settings: Any, originals: list[Path], num_rounds: int) -> None:
    """Compare at 1 and at 32 clients."""
    pipeline = LocalPipeline(settings.model, settings.media, settings.engine)
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(timeout=120, limits=limits) as http:

        async def ask_http(clip: Path) -> dict[str, float]:
            body = {
                "video_path": str(clip),
                "question": QUESTION,
                "temperature": SAMPLING.temperature,
                "max_tokens": SAMPLING.max_tokens,
                "details": True,
            }
            response = await http.post(f"{url}/process_video", json=body)
            timings: dict[str, float] = response.raise_for_status().json()["details"]["timings_ms"]
            return timings

        async def ask_bare(clip: Path) -> dict[str, float]:
            source = ClipSource(path=str(clip))
            answer = await pipeline.answer(AnswerRequest(source, QUESTION, sampling=SAMPLING))
            return dict(answer.timings_ms)

        systems: dict[str, Ask] = {"http": ask_http, "bare": ask_bare}
        with tempfile.TemporaryDirectory() as folder:
            clips = fresh_clips(Path(folder), originals)
            one = await compare(systems, clips, 1, num_rounds, 8)
            many = await compare(systems, clips, 32, num_rounds, 160)
    await pipeline.close()
    added_ms = one["p50"]["http"] - one["p50"]["bare"]
    print(
        f"\nadded at 1 client: {added_ms:.0f} ms p50      ratio at 32 clients: {many['ratio']:.2f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/serve.yaml"))
    parser.add_argument("--model", type=Path, help="in place of the config's")
    parser.add_argument("--clips", type=Path, help="folder of mp4 files; default: the sample clip")
    parser.add_argument("--port", type=int, default=7897)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    config = load_serve_config(args.config, args.model, args.port)
    originals = sorted(args.clips.glob("*.mp4")) if args.clips else [SAMPLE]
    with running_server(config) as url:
        asyncio.run(bench(url, app_settings(config), originals, args.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
