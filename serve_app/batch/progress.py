"""Progress of a running job: rows, rows/s, time left, errors, and how busy the machines are."""

import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import TextIO

from serve_app.batch.rows import BusyTimes

Reading = tuple[float, float]  # busy and elapsed seconds

WINDOW_S = 60.0  # rows/s are a mean over this time
MIN_WINDOW_S = 2.0  # a shorter window is too noisy: rows arrive in units
LINE_S = 10.0  # time between lines when stderr is not a terminal


class Progress:
    """Takes the figures of every finished unit and shows a line from time to time."""

    def __init__(
        self,
        num_rows: int,
        num_done: int,
        stream: TextIO = sys.stderr,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_rows, self._stream, self._clock = num_rows, stream, clock
        self._is_watched = stream.isatty()
        self._num_before = self.num_done = num_done
        self._started_s = clock()
        self._asking_since_s: float | None = None
        self._recent: deque[tuple[float, int]] = deque()
        self._busy: dict[str, tuple[Reading, Reading]] = {}  # first and last reading, by name
        self._shown_s = 0.0
        self._errors: Mapping[str, int] = {}

    def update(self, num_done: int, errors: Mapping[str, int], busy: BusyTimes) -> None:
        now = self._clock()
        self.num_done, self._errors = num_done, errors
        if self._asking_since_s is None:
            busy_s = [reading[0] for name, reading in busy.items() if name.startswith("engine")]
            self._asking_since_s = now - max(busy_s, default=0.0)
        self._recent.append((now, num_done))
        while now - self._recent[0][0] > WINDOW_S and len(self._recent) > 2:
            self._recent.popleft()
        for name, reading in busy.items():
            first, last = self._busy.get(name, (reading, reading))
            self._busy[name] = (min(first, reading), max(last, reading))

    def show(self, pause_s: float | None = None) -> None:
        """Prints a line, unless the last one is less than `pause_s` old."""
        now = self._clock()
        pause_s = (1.0 if self._is_watched else LINE_S) if pause_s is None else pause_s
        if now - self._shown_s < pause_s:
            return
        self._shown_s = now
        start, end = ("\r\x1b[K", "") if self._is_watched else ("", "\n")
        self._stream.write(f"{start}{self.line()}{end}")
        self._stream.flush()

    def close(self) -> None:
        self.show(0)
        if self._is_watched:
            self._stream.write("\n")

    def line(self) -> str:
        parts = [f"{self.num_done}/{self._num_rows} rows"]
        if self._asking_since_s is None:
            return f"{parts[0]}  starting ({self.elapsed_s:.0f} s)"
        if rate := self._recent_rate():
            left_s = (self._num_rows - self.num_done) / rate
            parts += [f"{rate:.1f} rows/s", f"ETA {_clock_time(left_s)}"]
        num_errors = sum(self._errors.values())
        by_code = ", ".join(
            f"{code} {count}" for code, count in Counter(self._errors).most_common()
        )
        parts.append(f"errors {num_errors}" + (f" ({by_code})" if num_errors else ""))
        parts += [f"{kind} {share:.0%}" for kind, share in self.busy_shares().items()]
        return "  ".join(parts)

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._started_s

    @property
    def start_s(self) -> float | None:
        """Time from the start until the first row was inside an engine; None before that."""
        return None if self._asking_since_s is None else self._asking_since_s - self._started_s

    @property
    def rows_per_s(self) -> float | None:
        """Rows/s since the first row was inside an engine, without rows that an earlier run had done."""
        if self._asking_since_s is None or self._recent[-1][0] <= self._asking_since_s:
            return None
        return (self.num_done - self._num_before) / (self._recent[-1][0] - self._asking_since_s)

    def busy_shares(self) -> dict[str, float]:
        """Busy share (0..1) of cpu, engine and, if there is one, gpu over all machines and the whole run."""
        busy_s: defaultdict[str, float] = defaultdict(float)
        total_s: defaultdict[str, float] = defaultdict(float)
        for name, (first, last) in self._busy.items():
            kind = name.split(" ")[0]
            busy_s[kind] += last[0] - first[0]
            total_s[kind] += last[1] - first[1]
        return {kind: busy_s[kind] / total_s[kind] for kind in sorted(total_s) if total_s[kind]}

    def _recent_rate(self) -> float:
        (since, num_then), (now, num_now) = self._recent[0], self._recent[-1]
        return (num_now - num_then) / (now - since) if now - since >= MIN_WINDOW_S else 0.0


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
