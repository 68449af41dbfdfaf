"""What scripts that measure share: clips that no cache knows, many clients, medians, a tree of processes."""

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
    """Ray would write one into the home folder; the clusters of scripts are on loopback. What is set wins."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")


def mp4_files(folder: Path | None) -> list[Path]:
    """Those of a folder; by default the sample clip."""
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
    """So many at a time. How many a second, and of each its latency in ms and what `ask` returned."""
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
    """Of calls that take turns: what else the machine does meets all of them."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(num_rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - started) * 1e3)
    return taken


def median_and_range(values: Sequence[float], digits: int = 2) -> str:
    """median (min-max)."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def median_and_quartiles(values: Sequence[float], digits: int = 1) -> str:
    """median (first quartile-third quartile)."""
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def process_tree(pid: int | None = None) -> list[psutil.Process]:
    """A process (by default this one) and all below it; nothing where it has ended."""
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def tree_pss_bytes(pid: int | None = None) -> Counter[str]:
    """Memory of a tree of processes, by their names: a page that processes share is counted once."""
    sizes: Counter[str] = Counter()
    for process in process_tree(pid):
        try:
            sizes[process.name()] += process.memory_full_info().pss
        except psutil.Error:  # it has ended since
            continue
    return sizes
