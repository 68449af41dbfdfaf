"""Simulates replicas that answer requests, in small steps of time.

Every request is simulated individually, but events happen only at the ends of steps: times are rounded to
the nearest step. A step should be at most a fifth of the time of a single request (`longest_step_s`).

Left out: decoding, the network, failing replicas, requests that find their clip in a cache, repeated
attempts, and callers who retry.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.ring import Ints, Ring
from scaling.service import ServiceTimes

ABSENT, STARTING, READY, DRAINING = range(4)


@dataclass(frozen=True)
class FleetSettings:
    """Settings of the Generator, its engines and the ingress. Names are serve.yaml's where it has them."""

    max_replicas: int
    start_s: float  # from the decision to the first request: node, image and weights
    max_num_seqs: int
    max_ongoing_requests: int
    num_ingress_replicas: int  # constant during the simulation
    max_queued_requests: int  # for each ingress replica's handle
    max_in_flight: int  # for each ingress replica: queued, waiting and running
    request_timeout_s: float
    num_seqs_in_kv_cache: int = 256  # assumed: more than a batch
    work_cv: float = 0.5  # assumed: standard deviation / mean of the work of a request


def longest_step_s(service: ServiceTimes) -> float:
    """The longest step with which times are exact to a tenth of the shortest one."""
    return float(service.time_s(1) / 5)


class Fleet:
    """The state after a whole number of steps. Counts of requests: arrived, answered, refused, timed_out."""

    def __init__(
        self,
        settings: FleetSettings,
        service: ServiceTimes,
        step_s: float,
        rng: np.random.Generator,
    ) -> None:
        self.settings, self._service, self.step_s, self._rng = settings, service, step_s, rng
        self._deadline = round(settings.request_timeout_s / step_s)  # in steps, as all times below
        self._max_queued = settings.num_ingress_replicas * settings.max_queued_requests
        self._max_inside = settings.num_ingress_replicas * settings.max_in_flight
        self._max_running = min(settings.max_num_seqs, settings.num_seqs_in_kv_cache)
        rows, ongoing = settings.max_replicas, settings.max_ongoing_requests
        self.now = 0
        self.state = np.full(rows, ABSENT)
        self.ready_at = np.zeros(rows, np.int64)
        self.num_running = np.zeros(rows, np.int64)
        self.num_waiting = np.zeros(rows, np.int64)
        self._done_work = np.zeros(rows)  # for a request that has been running from the start
        self._ends_at = np.full(
            (rows, self._max_running), np.inf
        )  # in done work; inf: a free place
        self._arrived = np.zeros((rows, self._max_running), np.int64)
        self._waiting = np.zeros((rows, ongoing), np.int64)  # arrival times, as ring buffers
        self._head = np.zeros(rows, np.int64)
        self._queue = np.zeros(0, np.int64)  # arrival times of requests queued at the handles
        self._keys = np.zeros(0)  # their positions on the ring, 0..1
        self._ring = Ring(rows, rng)
        self.arrived = self.answered = self.refused = self.timed_out = 0
        self.wait_steps = np.zeros(self._deadline + 2, np.int64)  # histogram of waiting times
        self.latency_steps = np.zeros(self._deadline + 2, np.int64)  # histogram of latencies
        self.replica_steps = 0  # sum over all steps of replicas that hold a GPU

    @property
    def num_queued(self) -> int:
        """Requests queued at the handles, without a replica."""
        return len(self._queue)

    @property
    def num_inside(self) -> int:
        """Requests that have arrived and not ended."""
        return self.num_queued + int(self.num_running.sum() + self.num_waiting.sum())

    @property
    def num_target(self) -> int:
        """Replicas that are starting or ready."""
        return int(np.isin(self.state, (STARTING, READY)).sum())

    def scale(self, num_replicas: int) -> None:
        """Starts replicas as far as GPUs are free, or removes some, starting ones first."""
        missing = num_replicas - self.num_target
        if missing > 0:
            rows = np.flatnonzero(self.state == ABSENT)[:missing]
            self.state[rows] = STARTING
            self.ready_at[rows] = self.now + round(self.settings.start_s / self.step_s)
        elif missing < 0:
            starting = np.flatnonzero(self.state == STARTING)[missing:]
            self.state[starting] = ABSENT
            left = missing + len(starting)
            if left < 0:
                self.state[np.flatnonzero(self.state == READY)[left:]] = DRAINING

    def step(self, num_arrivals: int) -> None:
        """Advances one step: answers, deadlines, new replicas, arrivals, and requests that begin."""
        self.now += 1
        self.replica_steps += int((self.state != ABSENT).sum())
        self._answer()
        self._time_out()
        self.state[(self.state == STARTING) & (self.ready_at <= self.now)] = READY
        self.state[(self.state == DRAINING) & (self.num_running + self.num_waiting == 0)] = ABSENT
        self.arrived += num_arrivals
        num_admitted = min(num_arrivals, max(0, self._max_inside - self.num_inside))
        self.refused += num_arrivals - num_admitted
        self._queue = np.append(self._queue, np.full(num_admitted, self.now))
        self._keys = np.append(self._keys, self._rng.random(num_admitted))
        self._dispatch()
        self._begin()

    def _answer(self) -> None:
        busy = np.flatnonzero(self.num_running)
        times_s = self._service.time_s(self.num_running[busy])
        self._done_work[busy] += self.step_s / times_s
        done = self._ends_at[busy] <= self._done_work[busy, None]
        self.answered += int(done.sum())
        arrived = self._arrived[busy][done]
        # A request that ends in the very step of its deadline counts as answered.
        times = np.minimum(self.now - arrived, self._deadline + 1)
        self.latency_steps += np.bincount(times, minlength=len(self.latency_steps))
        self._free(busy, done)

    def _time_out(self) -> None:
        """Ends requests whose deadline has passed, wherever they are."""
        last = self.now - self._deadline
        busy = np.flatnonzero(self.num_running)
        late = (self._arrived[busy] <= last) & np.isfinite(self._ends_at[busy])
        self.timed_out += int(late.sum())
        self._free(busy, late)
        kept = self._queue > last
        self.timed_out += int((~kept).sum())
        self._queue, self._keys = self._queue[kept], self._keys[kept]
        # Waiting requests are checked from the front: those behind arrived later, with few exceptions.
        while len(rows := np.flatnonzero(self.num_waiting)):
            rows = rows[self._waiting[rows, self._head[rows]] <= last]
            if not len(rows):
                break
            self.timed_out += len(rows)
            self._drop(rows, 1)

    def _free(self, rows: Ints, places: NDArray[np.bool_]) -> None:
        ends_at = self._ends_at[rows]
        ends_at[places] = np.inf
        self._ends_at[rows] = ends_at
        self.num_running[rows] -= places.sum(axis=1)

    def _drop(self, rows: Ints, numbers: Any) -> None:
        """Removes the first `numbers` waiting requests of these replicas."""
        self._head[rows] = (self._head[rows] + numbers) % self._waiting.shape[1]
        self.num_waiting[rows] -= numbers

    def _dispatch(self) -> None:
        """Sends queued requests to replicas, the oldest first, as long as any replica has room."""
        ready = self.state == READY
        ongoing = self.num_running + self.num_waiting
        max_ongoing = self.settings.max_ongoing_requests
        number = min(len(self._queue), int((max_ongoing - ongoing[ready]).sum()))
        if number:
            self._ring.set_ready(ready)
            rows, before = self._ring.place(self._keys[:number], ongoing, max_ongoing)
            places = (self._head[rows] + before - self.num_running[rows]) % self._waiting.shape[1]
            self._waiting[rows, places] = self._queue[:number]
            self.num_waiting += np.bincount(rows, minlength=len(ready))
        self.refused += max(0, len(self._queue) - number - self._max_queued)
        left = slice(number, number + self._max_queued)
        self._queue, self._keys = self._queue[left], self._keys[left]

    def _begin(self) -> None:
        """Moves requests that wait in an engine into the free places of its batch."""
        free = self._max_running - self.num_running
        rows = np.flatnonzero((self.num_waiting > 0) & (free > 0))
        numbers = np.minimum(self.num_waiting, free)[rows]
        which = np.repeat(np.arange(len(rows)), numbers)
        rank = np.arange(len(which)) - np.repeat(numbers.cumsum() - numbers, numbers)
        free_rows, free_places = np.nonzero(np.isinf(self._ends_at[rows]))
        places = free_places[np.searchsorted(free_rows, np.arange(len(rows)))[which] + rank]
        begun = rows[which]
        arrived = self._waiting[begun, (self._head[begun] + rank) % self._waiting.shape[1]]
        # A request behind later arrivals may be past its deadline; it ends with the next step.
        waits = np.minimum(self.now - arrived, self._deadline + 1)
        self.wait_steps += np.bincount(waits, minlength=len(self.wait_steps))
        self.num_running[rows] += numbers
        self._drop(rows, numbers)
        # Half a step less rounds the end to the nearest step instead of up.
        half_a_step = 0.5 * self.step_s / self._service.time_s(self.num_running[begun])
        ends_at = self._done_work[begun] + self._work(len(begun)) - half_a_step
        self._ends_at[begun, places], self._arrived[begun, places] = ends_at, arrived

    def _work(self, number: int) -> Any:
        """Random work of `number` requests; 1 on average."""
        cv = self.settings.work_cv
        return self._rng.gamma(cv**-2, cv**2, number) if cv else np.ones(number)
