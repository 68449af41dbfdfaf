"""Rows/s of `emotion-llama batch`, compared with a bare engine and HTTP clients; or its memory.

Every round uses new clips, so that no cache answers from an earlier round. The systems take turns within a
round, so that a noisy machine slows all alike:

    batch       emotion-llama batch with its own Ray; the time of its start is shown separately
    bare        one process: the same decode pool and the same Engine, 64 rows in flight
    bare once   the same, but each clip is decoded once for all its rows, as batch does
    http 1      one client of POST /process_video, with the first rows
    http 32     32 clients, with more rows

`--alone` runs only `batch`. `--memory` also runs only `batch`, with 400 and with 2,000 rows, and adds up the
proportional set size (PSS) of its process tree every half second, which counts shared pages once.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from lib.measuring import (
    ask_all,
    fresh_clips,
    median_and_range,
    tree_pss_bytes,
    without_ray_token,
)
from lib.ports import free_port

from serve_app.bundled import DEMO_CHECKPOINT
from serve_app.check import open_checkpoint
from serve_app.demo.clips import label_scenes
from serve_app.demo.world import write_scenes
from serve_app.engine.engine import Engine
from serve_app.errors import RequestError
from serve_app.media.pool import DecodePool
from serve_app.serve_config import app_settings, load_serve_config
from serve_app.server import running_server
from serve_app.settings import MIB, AppSettings
from serve_app.types import NO_SOURCE, AnswerRequest, ClipSource, DecodeOptions, Sampling

CONFIG = Path("configs/serve.yaml")
SEED = 7_000_000
NUM_ORIGINALS = 45
ROWS_PER_CLIP = 10
BAD_EVERY = 20  # one clip in 20 is bad: 5 % of the rows
QUESTIONS = (
    "[emotion] What is the emotion expressed in this video?",
    "[reason] What are the facial expressions and vocal tone used in the video?",
)
IN_FLIGHT = 64
CLIPS_IN_FLIGHT = -(-IN_FLIGHT // ROWS_PER_CLIP)
HTTP_ROWS = {1: 100, 32: 640}  # by the number of clients
SAMPLE_S = 0.5

Row = dict[str, Any]


class Rows:
    """Endless rows, ten about each clip. No two clips are the same, and one in twenty is bad."""

    def __init__(self, folder: Path) -> None:
        originals = write_scenes(label_scenes(NUM_ORIGINALS, SEED), folder / "originals")
        (folder / "clips").mkdir()
        self._clips = fresh_clips(folder / "clips", originals)

    def take(self, num_rows: int) -> list[Row]:
        clips = list(itertools.islice(self._clips, num_rows // ROWS_PER_CLIP))
        for nth, clip in enumerate(clips[::BAD_EVERY]):
            if nth % 2:
                clip.unlink()
            else:
                clip.write_bytes(clip.read_bytes()[:2000])
        return [
            {"id": f"row-{number}", "video": str(clip), "question": f"{QUESTIONS[nth % 2]} ({nth})"}
            for number, (clip, nth) in enumerate(itertools.product(clips, range(ROWS_PER_CLIP)))
        ]


class Batch:
    """`emotion-llama batch` over some rows."""

    def __init__(self, folder: Path, options: list[str]) -> None:
        self._folder, self._options = folder, options

    def run(self, rows: list[Row]) -> dict[str, Any]:
        """Runs the batch to its end and returns its report."""
        with self.running(rows) as process:
            process.wait()
        report: dict[str, Any] = json.loads((self._folder / "report.json").read_text())
        return report

    @contextlib.contextmanager
    def running(self, rows: list[Row]) -> Iterator["subprocess.Popen[bytes]"]:
        """Starts the batch. It must have ended when the block ends, with errors of bad rows alone."""
        manifest, out = self._folder / "manifest.jsonl", self._folder / "out.jsonl"
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        shutil.rmtree(f"{out}.parts", ignore_errors=True)
        out.unlink(missing_ok=True)
        command = [sys.executable, "-m", "serve_app.cli", "batch"]
        command += ["--input", str(manifest), "--output", str(out), "--temperature", "0"]
        command += ["--config", str(CONFIG), "--model", str(DEMO_CHECKPOINT)]
        command += ["--report", str(self._folder / "report.json"), *self._options]
        log = self._folder / "batch.log"
        with log.open("w") as file, subprocess.Popen(command, stderr=file) as process:
            yield process
        assert process.returncode == 3, f"batch: {process.returncode}:\n{log.read_text()}"


class Bare:
    """The same decode pool and the same Engine, in this process."""

    def __init__(self, settings: AppSettings) -> None:
        checkpoint = open_checkpoint(settings.model)
        self._pool = DecodePool(settings.media, checkpoint.image_size)
        self._engine = Engine(checkpoint, settings.engine)
        self._sampling = Sampling(**{**settings.sampling.model_dump(), "temperature": 0})

    async def ask(self, row: Row) -> None:
        await self.ask_once([row])

    async def ask_once(self, rows: list[Row]) -> None:
        """Answers rows about one clip, decoding it once."""
        with contextlib.suppress(RequestError):  # a bad clip
            clip = await self._pool.decode(ClipSource(path=rows[0]["video"]), DecodeOptions())
            requests = (
                AnswerRequest(NO_SOURCE, row["question"], sampling=self._sampling) for row in rows
            )
            await asyncio.gather(*(self._engine.answer(clip, request) for request in requests))

    async def close(self) -> None:
        await asyncio.to_thread(self._pool.close)
        self._engine.shutdown()


class Http:
    """A client of a server."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, row: Row) -> None:
        body = {"video_path": row["video"], "question": row["question"], "temperature": 0}
        await self._client.post("/process_video", json=body)


async def compare(url: str, settings: AppSettings, args: argparse.Namespace, folder: Path) -> None:
    """Measures all systems in turn, round by round, and prints the rates."""
    rows, batch, bare = Rows(folder), Batch(folder, batch_options(args)), Bare(settings)
    rates: dict[str, list[float]] = {}
    starts: list[float] = []
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        http = Http(client)
        # Warms up the systems that keep running.
        await ask_all(rows.take(HTTP_ROWS[32]), IN_FLIGHT, bare.ask)
        await ask_all(rows.take(HTTP_ROWS[32]), 32, http.ask)
        for _ in range(args.rounds):
            some = rows.take(args.rows)
            report = await asyncio.to_thread(batch.run, some)
            starts.append(report["start_s"])
            measured = {"batch": report["rows_per_s"]}
            measured |= await rates_bare(bare, some, rows.take(args.rows))
            measured |= await rates_over_http(http, rows.take(args.rows))
            for name, value in measured.items():
                rates.setdefault(name, []).append(value)
            print({name: round(value, 1) for name, value in measured.items()}, flush=True)
    await bare.close()
    print(f"\n{args.rounds} rounds of {args.rows} rows about {args.rows // ROWS_PER_CLIP} clips")
    print_rates(rates, starts)


async def rates_bare(bare: Bare, rows: list[Row], others: list[Row]) -> dict[str, float]:
    """Rows/s with `rows` one by one, and with `others` clip by clip."""
    one_by_one, _ = await ask_all(rows, IN_FLIGHT, bare.ask)
    starts = range(0, len(others), ROWS_PER_CLIP)
    by_clip = [others[start : start + ROWS_PER_CLIP] for start in starts]
    clips_per_s, _ = await ask_all(by_clip, CLIPS_IN_FLIGHT, bare.ask_once)
    return {"bare": one_by_one, "bare once": ROWS_PER_CLIP * clips_per_s}


async def rates_over_http(http: Http, rows: list[Row]) -> dict[str, float]:
    """Rows/s for each number of clients, each with different rows."""
    waiting = iter(rows)
    return {
        f"http {num_clients}": (
            await ask_all(list(itertools.islice(waiting, num_rows)), num_clients, http.ask)
        )[0]
        for num_clients, num_rows in HTTP_ROWS.items()
    }


def alone(args: argparse.Namespace, folder: Path) -> None:
    """Measures the batch without the other systems."""
    rows, batch = Rows(folder), Batch(folder, batch_options(args))
    reports = [batch.run(rows.take(args.rows)) for _ in range(args.rounds)]
    print_rates(
        {"batch": [report["rows_per_s"] for report in reports]},
        [report["start_s"] for report in reports],
    )


def print_rates(rates: dict[str, list[float]], starts_s: list[float]) -> None:
    for name, values in rates.items():
        against = [a / b for a, b in zip(rates["batch"], values, strict=True)]
        ratio = "" if name == "batch" else f"   batch is {median_and_range(against)} times that"
        print(f"  {name:9} {median_and_range(values)} rows/s{ratio}")
    print(f"  batch starts for {median_and_range(starts_s)} s before its first row")


def memory(args: argparse.Namespace, folder: Path) -> None:
    """Compares the batch's peak memory with few and with many rows."""
    few, many = (
        statistics.median(
            peak_mib(num_rows, args, Path(tempfile.mkdtemp(dir=folder))) for _ in range(args.rounds)
        )
        for num_rows in (400, 2000)
    )
    print(f"2000 rows take {many / few:.3f} of the memory of 400")


def peak_mib(num_rows: int, args: argparse.Namespace, folder: Path) -> float:
    """Peak memory of the batch's whole process tree."""
    largest: Counter[str] = Counter()
    with Batch(folder, batch_options(args)).running(Rows(folder).take(num_rows)) as process:
        while process.poll() is None:
            largest = max(largest, tree_pss_bytes(process.pid), key=Counter.total)
            time.sleep(SAMPLE_S)
    parts = ", ".join(f"{name} {size / MIB:.0f}" for name, size in largest.most_common(6))
    print(f"{num_rows} rows: peak {largest.total() / MIB:.0f} MiB ({parts}, ...)", flush=True)
    return largest.total() / MIB


def batch_options(args: argparse.Namespace) -> list[str]:
    """This script's options that are passed on to `emotion-llama batch`."""
    given = {"--concurrency": args.concurrency, "--dtype": args.dtype}
    return [
        word for name, value in given.items() if value is not None for word in (name, str(value))
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--alone", action="store_true", help="measure the batch alone")
    what.add_argument("--memory", action="store_true", help="measure memory in place of rows/s")
    parser.add_argument("--concurrency", type=int, help="the batch's")
    parser.add_argument("--dtype", help="precision of every engine, in place of the config's")
    args = parser.parse_args()
    without_ray_token()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.alone:
            alone(args, folder)
        elif args.memory:
            memory(args, folder)
        else:
            config = load_serve_config(CONFIG, DEMO_CHECKPOINT, free_port())
            if args.dtype is not None:
                config.applications[0].args["engine"]["dtype"] = args.dtype
            with running_server(config) as url:
                asyncio.run(compare(url, app_settings(config), args, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
