"""Helpers for measurements: clips that are in no cache, many clients, medians, memory of process trees."""

import asyncio
import itertools
import os
import statistics
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import psutil

from serve_app.bundled import SAMPLE

T = TypeVar("T")
R = TypeVar("R")


def without_ray_token() -> None:
    """Turns off token authentication unless it is configured: Ray would write a token to the home folder."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")


def mp4_files(folder: Path | None) -> list[Path]:
    """The mp4 files of a folder; without a folder, the sample clip."""
    return sorted(folder.glob("*.mp4")) if folder else [SAMPLE]


def fresh_clips(folder: Path, originals: Sequence[Path]) -> Iterator[Path]:
    """Endless distinct copies of the originals, each with a counter appended in a `free` box."""
    for number, original in enumerate(itertools.cycle(originals)):
        path = folder / f"{number}.mp4"
        path.write_bytes(original.read_bytes() + struct.pack(">I4sQ", 16, b"free", number))
        yield path


async def ask_all(
    asked: Sequence[T], num_clients: int, ask: Callable[[T], Awaitable[R]]
) -> tuple[float, list[tuple[float, R]]]:
    """Calls `ask` on all items, `num_clients` at a time. Returns the rate per second and each latency in ms
    with its result."""
    waiting = iter(asked)
    results: list[tuple[float, R]] = []

    async def client() -> None:
        for each in waiting:
            started = time.perf_counter()
            told = await ask(each)
            results.append(((time.perf_counter() - started) * 1e3, told))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(num_clients)))
    return len(asked) / (time.perf_counter() - started), results


def times_ms(calls: Mapping[str, Callable[[], object]], num_rounds: int) -> dict[str, list[float]]:
    """Times calls that take turns, so that other load on the machine affects all of them alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(num_rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - started) * 1e3)
    return taken


def median_and_range(values: Sequence[float], digits: int = 2) -> str:
    """Formats values as `median (min-max)`."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def median_and_quartiles(values: Sequence[float], digits: int = 1) -> str:
    """Formats values as `median (first quartile-third quartile)`."""
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def process_tree(pid: int | None = None) -> list[psutil.Process]:
    """A process (by default this one) and its descendants; nothing if it has ended."""
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def tree_pss_bytes(pid: int | None = None) -> Counter[str]:
    """PSS of a tree of processes, by process name: pages that they share are counted once."""
    sizes: Counter[str] = Counter()
    for process in process_tree(pid):
        try:
            sizes[process.name()] += process.memory_full_info().pss
        except psutil.Error:  # the process has ended meanwhile
            continue
    return sizes
