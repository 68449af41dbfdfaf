"""Rows/s of `emotion-llama batch` beside a bare engine and HTTP clients; its memory by the number of rows.

Every round asks about clips of its own, so that no cache answers from an earlier one. The systems take turns
within a round, so that a noisy machine slows all alike:

    batch       emotion-llama batch with a Ray of its own; its start is told apart
    bare        one process: the same decode pool feeding the same Engine, 64 rows in flight
    bare once   the same, which decodes each clip once for all its rows, as batch does
    http 1      a loop over POST /process_video, of the first rows
    http 32     32 clients, of more of them

`--memory` runs `batch` alone, over 400 and over 2,000 rows, and adds up the proportional set size (PSS) of
its whole process tree every half second: a page that processes share is counted once.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
from bench import fresh_clips, spread

from serve_app.bundled import DEMO_CHECKPOINT
from serve_app.check import open_checkpoint
from serve_app.demo.clips import label_scenes
from serve_app.demo.world import write_scenes
from serve_app.engine import Engine
from serve_app.errors import RequestError
from serve_app.media.pool import DecodePool
from serve_app.serve_config import app_settings, load_serve_config
from serve_app.server import running_server
from serve_app.settings import AppSettings
from serve_app.types import NO_SOURCE, AnswerRequest, ClipSource, DecodeOptions, Sampling

CONFIG = Path("configs/serve.yaml")
SEED = 7_000_000
NUM_ORIGINALS = 45
ROWS_PER_CLIP = 10
BAD_EVERY = 20  # clips: 5 % of the rows
QUESTIONS = (
    "[emotion] What is the emotion expressed in this video?",
    "[reason] What are the facial expressions and vocal tone used in the video?",
)
IN_FLIGHT = 64
HTTP_ROWS = {1: 100, 32: 640}
SAMPLE_S = 0.5

Row = dict[str, Any]
T = TypeVar("T")


def make_rows(num_rows: int, clips: list[Path]) -> list[Row]:
    """Ten rows about each clip in turn."""
    rows = []
    for number in range(num_rows):
        clip, nth = clips[number // ROWS_PER_CLIP % len(clips)], number % ROWS_PER_CLIP
        question = f"{QUESTIONS[nth % 2]} ({nth})"
        rows.append({"id": f"row-{number}", "video": str(clip), "question": question})
    return rows


def endless_clips(folder: Path) -> Iterator[Path]:
    """No two of them alike."""
    originals = write_scenes(label_scenes(NUM_ORIGINALS, SEED), folder / "originals")
    (folder / "clips").mkdir()
    return fresh_clips(folder / "clips", originals)


def take(endless: Iterator[Path], num_clips: int) -> list[Path]:
    """Of each twenty, one is not there or cut off."""
    clips = list(itertools.islice(endless, num_clips))
    for nth, clip in enumerate(clips[::BAD_EVERY]):
        if nth % 2:
            clip.unlink()
        else:
            clip.write_bytes(clip.read_bytes()[:2000])
    return clips


def batch_command(rows: list[Row], folder: Path) -> list[str]:
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.rmtree(folder / "out.jsonl.parts", ignore_errors=True)
    (folder / "out.jsonl").unlink(missing_ok=True)
    options = ["--temperature", "0", "--config", str(CONFIG), "--model", str(DEMO_CHECKPOINT)]
    options += ["--report", str(folder / "report.json")]
    files = ["--input", str(manifest), "--output", str(folder / "out.jsonl")]
    return [sys.executable, "-m", "serve_app.cli", "batch", *files, *options]


def read_report(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


async def rate(asked: list[T], num_clients: int, ask: Callable[[T], Awaitable[None]]) -> float:
    """How many a second, with so many at a time."""
    waiting = iter(asked)

    async def client() -> None:
        for each in waiting:
            await ask(each)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(num_clients)))
    return len(asked) / (time.perf_counter() - started)


async def compare(url: str, settings: AppSettings, args: argparse.Namespace, folder: Path) -> None:
    endless, num_clips = endless_clips(folder), args.rows // ROWS_PER_CLIP
    checkpoint = open_checkpoint(settings.model)
    pool = DecodePool(settings.media, checkpoint.image_size)
    engine = Engine(checkpoint, settings.engine)
    sampling = Sampling(**{**settings.sampling.model_dump(), "temperature": 0})
    rates: dict[str, list[float]] = {}
    starts: list[float] = []

    def asked(row: Row) -> AnswerRequest:
        return AnswerRequest(NO_SOURCE, row["question"], sampling=sampling)

    async def ask_bare(row: Row) -> None:
        with contextlib.suppress(RequestError):  # a bad clip
            clip = await pool.decode(ClipSource(path=row["video"]), DecodeOptions())
            await engine.answer(clip, asked(row))

    async def ask_once(some: list[Row]) -> None:
        """Rows about one clip."""
        with contextlib.suppress(RequestError):
            clip = await pool.decode(ClipSource(path=some[0]["video"]), DecodeOptions())
            await asyncio.gather(*(engine.answer(clip, asked(row)) for row in some))

    async with httpx.AsyncClient(base_url=url, timeout=120) as http:

        async def ask_http(row: Row) -> None:
            body = {"video_path": row["video"], "question": row["question"], "temperature": 0}
            await http.post("/process_video", json=body)

        for number in range(args.rounds + 1):
            rows = make_rows(args.rows, take(endless, num_clips))
            http_rows = make_rows(args.rows, take(endless, num_clips))
            if number == 0:  # warms up what stays up
                await rate(rows[: HTTP_ROWS[32]], IN_FLIGHT, ask_bare)
                await rate(http_rows[: HTTP_ROWS[32]], 32, ask_http)
                continue
            command = batch_command(rows, folder)
            log = folder / "batch.log"
            with log.open("w") as file:
                status = await asyncio.to_thread(subprocess.call, command, stderr=file)
            assert status == 3, f"batch ended with {status}:\n{log.read_text()}"
            report = read_report(folder)
            starts.append(report["start_s"])
            measured = {
                "batch": report["rows_per_s"],
                "bare": await rate(rows, IN_FLIGHT, ask_bare),
            }
            others = make_rows(args.rows, take(endless, num_clips))
            starting = range(0, len(others), ROWS_PER_CLIP)
            groups = [others[start : start + ROWS_PER_CLIP] for start in starting]
            at_once = -(-IN_FLIGHT // ROWS_PER_CLIP)
            measured["bare once"] = ROWS_PER_CLIP * await rate(groups, at_once, ask_once)
            offset = 0
            for num_clients, num_rows in HTTP_ROWS.items():
                some = http_rows[offset : offset + num_rows]
                measured[f"http {num_clients}"] = await rate(some, num_clients, ask_http)
                offset += num_rows
            for name, value in measured.items():
                rates.setdefault(name, []).append(value)
            print({name: round(value, 1) for name, value in measured.items()}, flush=True)
    await asyncio.to_thread(pool.close)
    engine.shutdown()
    print(f"\n{args.rounds} rounds of {args.rows} rows about {num_clips} clips")
    for name, values in rates.items():
        against = [a / b for a, b in zip(rates["batch"], values, strict=True)]
        ratio = "" if name == "batch" else f"   batch is {spread(against)} times that"
        print(f"  {name:9} {spread(values)} rows/s{ratio}")
    print(f"  batch starts for {spread(starts)} s before its first row")


def memory(num_rows: int, folder: Path) -> float:
    """Peak in MiB of the whole process tree."""
    rows = make_rows(num_rows, take(endless_clips(folder), 200))
    peak, by_name = 0.0, {}
    log = folder / "batch.log"
    with log.open("w") as file:
        process = subprocess.Popen(batch_command(rows, folder), stderr=file)
    while process.poll() is None:
        sizes = tree_pss_mib(process.pid)
        if sum(sizes.values()) > peak:
            peak, by_name = sum(sizes.values()), sizes
        time.sleep(SAMPLE_S)
    assert process.returncode == 3, f"batch ended with {process.returncode}:\n{log.read_text()}"
    largest = sorted(by_name.items(), key=lambda item: -item[1])[:6]
    parts = ", ".join(f"{name} {mib:.0f}" for name, mib in largest)
    print(f"{num_rows} rows: peak {peak:.0f} MiB ({parts}, ...)", flush=True)
    return peak


def tree_pss_mib(pid: int) -> dict[str, float]:
    sizes: dict[str, float] = {}
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return sizes
    for process in processes:
        try:
            name, mib = process.name(), process.memory_full_info().pss / (1 << 20)
        except psutil.Error:
            continue
        sizes[name] = sizes.get(name, 0.0) + mib
    return sizes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=7898)
    parser.add_argument("--memory", action="store_true", help="measure memory in place of rows/s")
    args = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.memory:
            short, long = (
                statistics.median(
                    memory(n, Path(tempfile.mkdtemp(dir=name))) for _ in range(args.rounds)
                )
                for n in (400, 2000)
            )
            print(f"2000 rows take {long / short:.3f} of the memory of 400")
            return 0
        config = load_serve_config(CONFIG, DEMO_CHECKPOINT, args.port)
        with running_server(config) as url:
            asyncio.run(compare(url, app_settings(config), args, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
