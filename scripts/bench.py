"""`make bench`: requests/s and latency through HTTP and Ray Serve, compared with the bare engine.

The bare engine is the same decode pool and the same Engine class in this process, without Ray or HTTP.
Both run at once and take turns in short rounds, so that a noisy machine slows both alike. Every request
has a clip of its own (the sample plus a counter in a `free` box), so that no cache answers.
`--only bare` starts no server: two engines do not fit on one GPU.
"""

import argparse
import asyncio
import contextlib
import itertools
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from lib.measuring import (
    ask_all,
    fresh_clips,
    median_and_range,
    mp4_files,
    process_tree,
    without_ray_token,
)
from lib.ports import free_port

from serve_app.local import LocalPipeline
from serve_app.serve_config import app_settings, load_serve_config
from serve_app.server import running_server
from serve_app.settings import AppSettings
from serve_app.types import AnswerRequest, ClipSource, Sampling

QUESTION = "[emotion] What is the emotion expressed in this video?"
STAGES = ("decode", "queue", "first_token", "total")

Timings = dict[str, float]  # ms by stage
Ask = Callable[[Path], Awaitable[Timings]]


@dataclass
class Measured:
    """The measurements of a system's rounds."""

    rates: list[float] = field(default_factory=list)  # requests/s, round by round
    requests: list[tuple[float, Timings]] = field(default_factory=list)  # latency in ms, stages
    cpu_ms: Counter[str] = field(default_factory=Counter)  # by process

    @property
    def p50_ms(self) -> float:
        return statistics.median(latency_ms for latency_ms, _ in self.requests)

    def describe(self) -> str:
        medians = {
            stage: statistics.median(timings[stage] for _, timings in self.requests)
            for stage in STAGES
        }
        stages = ", ".join(f"{stage} {median:.0f}" for stage, median in medians.items())
        cpu_ms = {name: used / len(self.requests) for name, used in self.cpu_ms.most_common()}
        shares = ", ".join(f"{name} {used:.0f}" for name, used in cpu_ms.items() if used >= 1)
        return (
            f"{median_and_range(self.rates)} requests/s   p50 {self.p50_ms:.0f} ms   "
            f"(median ms: {stages})\n"
            f"        CPU ms a request: {sum(cpu_ms.values()):.0f} ({shares})"
        )


async def compare(
    systems: dict[str, Ask], clips: Iterator[Path], num_clients: int, num_rounds: int, size: int
) -> dict[str, Measured]:
    """Runs rounds of the systems in turn; prints and returns what each took."""
    measured = {name: Measured() for name in systems}
    for number in range(num_rounds + 1):
        for name, ask in systems.items():
            before = cpu_ms()
            rate, requests = await ask_all(list(itertools.islice(clips, size)), num_clients, ask)
            if number > 0:  # the first round warms up
                measured[name].rates.append(rate)
                measured[name].requests += requests
                measured[name].cpu_ms.update(cpu_ms() - before)
    print(f"\n{num_clients} client(s), {num_rounds} rounds of {size} requests each")
    for name, each in measured.items():
        print(f"  {name:5} {each.describe()}")
    if len(measured) > 1:
        ratios = rate_ratios(measured)
        print(f"  ratio http / bare, round by round: {median_and_range(ratios)}")
    return measured


def rate_ratios(measured: dict[str, Measured]) -> list[float]:
    """The ratio http / bare of each round."""
    rates = zip(measured["http"].rates, measured["bare"].rates, strict=True)
    return [http / bare for http, bare in rates]


def cpu_ms() -> Counter[str]:
    """CPU time so far, in ms, of this process and its descendants: Ray, the replicas and both engines."""
    used: Counter[str] = Counter()
    for process in process_tree():
        with contextlib.suppress(psutil.Error):
            # Keeps the constant part of ray::ServeReplica:app:Name and ray::Actor.method.
            name = process.name().removeprefix("ray::").rsplit(":", 1)[-1].split(".")[0]
            decodes = "multiprocessing.forkserver" in " ".join(process.cmdline())
            times = process.cpu_times()
            used["decode workers" if decodes else name] += round((times.user + times.system) * 1e3)
    return used


async def bench(
    url: str | None, settings: AppSettings, originals: list[Path], num_rounds: int, max_tokens: int
) -> None:
    """Compares both systems with 1 and with 32 clients; without a URL only the bare engine runs."""
    sampling = Sampling(temperature=0, max_tokens=max_tokens)
    pipeline = LocalPipeline(settings.model, settings.media.without_roots(), settings.engine)
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(timeout=120, limits=limits) as http:

        async def ask_http(clip: Path) -> Timings:
            body = {
                "video_path": str(clip),
                "question": QUESTION,
                "temperature": 0,
                "max_tokens": max_tokens,
                "details": True,
            }
            response = await http.post(f"{url}/process_video", json=body)
            timings: Timings = response.raise_for_status().json()["details"]["timings_ms"]
            return timings

        async def ask_bare(clip: Path) -> Timings:
            source = ClipSource(path=str(clip))
            answer = await pipeline.answer(AnswerRequest(source, QUESTION, sampling=sampling))
            return dict(answer.timings_ms)

        systems: dict[str, Ask] = {"bare": ask_bare}
        if url is not None:
            systems = {"http": ask_http, "bare": ask_bare}
        with tempfile.TemporaryDirectory() as folder:
            clips = fresh_clips(Path(folder), originals)
            alone = await compare(systems, clips, 1, num_rounds, 8)
            together = await compare(systems, clips, 32, num_rounds, 160)
    await pipeline.close()
    if url is not None:
        added_ms = alone["http"].p50_ms - alone["bare"].p50_ms
        ratio = statistics.median(rate_ratios(together))
        print(f"\nadded at 1 client: {added_ms:.0f} ms p50      ratio at 32 clients: {ratio:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=Path("configs/serve.yaml"))
    parser.add_argument("--model", type=Path, help="in place of the config's")
    parser.add_argument("--clips", type=Path, help="folder of mp4 files; default: the sample clip")
    parser.add_argument("--only", choices=["bare"], help="start no server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=32)
    args = parser.parse_args()
    without_ray_token()
    config = load_serve_config(args.config, args.model, free_port())
    settings, originals = app_settings(config), mp4_files(args.clips)
    with contextlib.nullcontext() if args.only else running_server(config) as url:
        asyncio.run(bench(url, settings, originals, args.rounds, args.max_tokens))
    return 0


if __name__ == "__main__":
    sys.exit(main())
