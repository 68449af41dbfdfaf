"""Durable progress: numbered part files beside the output, merged into the output at the end.

    OUT.parts/job.json                the job that the parts belong to
    OUT.parts/part-RUN-000001.jsonl   a header line, then up to 256 records sorted by row number
    OUT.parts/finished.json           the summary, written after the output; then the parts are removed

A part gets its final name only when it is complete and on disk. Nothing is appended to, because object stores
cannot append.
"""

import heapq
import io
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from serve_app.batch.rows import Record
from serve_app.batch.storage import Folder

PART_ROWS = 256
PART_S = 60.0
PREFIX = "part-"
HEAD = (
    "numbers",
    "error_codes",
    "num_output_tokens",
)  # lists in a part's first line, one item for each row


@dataclass(frozen=True, slots=True)
class Part:
    """A complete part file."""

    name: str
    first: int  # the number of its first row


class PartWriter:
    """Collects records and writes them as parts; ignores records of rows that are done already."""

    def __init__(self, folder: Folder, num_rows: int) -> None:
        """Reads which rows the parts in the folder already hold."""
        self._folder = folder
        self._run = uuid.uuid4().hex[:8]  # so that two runs never write the same name
        self._lock = threading.Lock()
        self._pending: list[Record] = []
        self._oldest_s = 0.0
        self.done = bytearray(num_rows)  # 1 for each row that is done
        self.num_done = 0
        self.errors: Counter[str] = Counter()  # by code
        self.num_output_tokens = 0
        self.parts: list[Part] = []
        for name in _part_names(folder):
            head = _read_head(folder, name)
            self.parts.append(Part(name, head["numbers"][0]))
            for row in zip(*(head[key] for key in HEAD), strict=True):
                self._count(*row)

    def add(self, records: Iterable[Record]) -> None:
        with self._lock:
            for record in records:
                if not self._count(record.number, record.error_code, record.num_output_tokens):
                    continue
                self._oldest_s = self._oldest_s if self._pending else time.monotonic()
                self._pending.append(record)
                if len(self._pending) >= PART_ROWS:
                    self._write()

    def flush(self, min_age_s: float = 0.0) -> None:
        """Writes the pending records if the oldest is at least this old."""
        with self._lock:
            if self._pending and time.monotonic() - self._oldest_s >= min_age_s:
                self._write()

    def _count(self, number: int, error_code: str, num_output_tokens: int) -> bool:
        """False for a row that is done already."""
        if self.done[number]:
            return False
        self.done[number] = 1
        self.num_done += 1
        self.errors.update([error_code] if error_code else [])
        self.num_output_tokens += num_output_tokens
        return True

    def _write(self) -> None:
        records = sorted(self._pending, key=lambda record: record.number)
        rows = [(each.number, each.error_code, each.num_output_tokens) for each in records]
        head = dict(zip(HEAD, zip(*rows, strict=True), strict=True))
        name = f"{PREFIX}{self._run}-{len(self.parts):06d}.jsonl"
        lines = [json.dumps(head).encode(), *(record.line for record in records), b""]
        self._folder.write(name, b"\n".join(lines))
        self.parts.append(Part(name, records[0].number))
        self._pending.clear()


def merged_lines(folder: Folder, parts: Iterable[Part]) -> Iterator[bytes]:
    """Each row's record once, in row order. Keeps only overlapping parts in memory."""
    waiting = sorted(parts, key=lambda part: part.first, reverse=True)
    opened: list[tuple[int, int, bytes, Iterator[tuple[int, bytes]]]] = []
    last = -1
    while waiting or opened:
        if waiting and (not opened or waiting[-1].first <= opened[0][0]):
            lines = _lines(folder, waiting.pop())
            number, line = next(lines)
            heapq.heappush(opened, (number, len(waiting), line, lines))
            continue
        number, tie, line, lines = opened[0]
        following = next(lines, None)
        if following is None:
            heapq.heappop(opened)
        else:
            heapq.heapreplace(opened, (following[0], tie, following[1], lines))
        if number > last:
            yield line
            last = number


def remove_parts(folder: Folder) -> None:
    for name in _part_names(folder):
        folder.remove(name)


def _part_names(folder: Folder) -> list[str]:
    return [name for name in folder.names() if name.startswith(PREFIX)]


def _read_head(folder: Folder, name: str) -> dict[str, Any]:
    with folder.reading(name) as file:
        head: dict[str, Any] = json.loads(io.BufferedReader(file).readline())
    return head


def _lines(folder: Folder, part: Part) -> Iterator[tuple[int, bytes]]:
    """Number and record of each row of a part."""
    head, *lines, _ = folder.read(part.name).split(b"\n")
    yield from zip(json.loads(head)["numbers"], lines, strict=True)
