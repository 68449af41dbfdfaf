"""The simulation of autoscaling keeps what any queue must keep, and runs the policy that Serve runs."""

import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.serve.experimental.consistent_hash_router import _hash_bytes
from scaling.deployed import read_deployed
from scaling.fleet import ABSENT, READY, Fleet, FleetSettings
from scaling.ring import Ring
from scaling.service import PROFILES, ServiceTimes
from scaling.traffic import DAY_S, TRAFFIC, arrivals, constant
from simulate_autoscaling import CONFIG, Run, simulate

from serve_app.deployments.clip_router import ClipRouter

SERVICE = ServiceTimes(fixed_s=1.0, per_request_s=0.1, source="made up")
SETTINGS = read_deployed(CONFIG, start_s=30, max_replicas=4, max_num_seqs=16).fleet
STEP_S = 0.2


def fleet(num_replicas: int, settings: FleetSettings = SETTINGS, step_s: float = STEP_S) -> Fleet:
    """All ready."""
    made = Fleet(settings, SERVICE, step_s, np.random.default_rng(1))
    made.scale(num_replicas)
    made.ready_at[:] = 0
    return made


def feed(fed: Fleet, rate: float, duration_s: float, seed: int = 0) -> list[int]:
    """A steady rate; how many requests were inside after each step."""
    rates = constant(np.arange(round(duration_s / fed.step_s), dtype=float), rate)
    inside = []
    for count in arrivals(rates, fed.step_s, np.random.default_rng(seed)).tolist():
        fed.step(count)
        inside.append(fed.num_inside)
    return inside


def mean_s(steps: Any, step_s: float = STEP_S) -> float:
    """Of a histogram over steps."""
    return float((steps * np.arange(len(steps))).sum() / steps.sum() * step_s)


def a_flash_crowd(seed: int, duration_s: float = 2400) -> list[Run]:
    """From shortly before it, under every strategy."""
    times_s = np.arange(0, duration_s, STEP_S, dtype=np.float64) + 11.8 * 3600
    rates = TRAFFIC["flash"](times_s, 1.5e6 / DAY_S)
    deployed = read_deployed(CONFIG, start_s=30, max_replicas=12, max_num_seqs=16)
    return simulate(rates, SERVICE, deployed, STEP_S, seed)


@pytest.mark.parametrize("rate", [1, 12, 40], ids=["idle", "busy", "far too much"])
def test_no_request_is_lost_or_made_up(rate: float) -> None:
    fed = fleet(2)
    for _ in range(60):
        feed(fed, rate, 4)
        ends = fed.answered + fed.refused + fed.timed_out
        assert fed.arrived == ends + fed.num_inside
        assert fed.num_inside <= SETTINGS.num_ingress_replicas * SETTINGS.max_in_flight
    assert fed.answered > 0
    assert (fed.refused > 0) == (rate == 40)


def test_littles_law_holds() -> None:
    """Requests inside, on average, are the rate times the time that each is inside."""
    fed = fleet(3)
    inside = feed(fed, 15, 1000)
    assert fed.timed_out == fed.refused == 0
    rate = fed.answered / 1000
    # The histogram tells of whole steps; a request is inside from its step on, so for as many.
    assert np.mean(inside) == pytest.approx(rate * mean_s(fed.latency_steps), rel=0.02)


def test_a_full_engine_answers_at_the_rate_of_its_formula() -> None:
    settings = replace(SETTINGS, request_timeout_s=1000, max_in_flight=1000)
    fed = fleet(1, settings)
    feed(fed, 6.5, 1500)
    assert fed.num_running[0] == 16
    assert fed.answered / 1500 == pytest.approx(SERVICE.max_rate(16), rel=0.03)


def test_an_empty_engine_takes_the_time_of_its_formula() -> None:
    fed = fleet(4)
    feed(fed, 0.5, 1000)
    assert mean_s(fed.latency_steps) == pytest.approx(SERVICE.time_s(1), rel=0.06)


def test_a_finer_step_tells_the_same() -> None:
    coarse, fine = fleet(2), fleet(2, step_s=STEP_S / 4)
    feed(coarse, 8, 1500)
    feed(fine, 8, 1500)
    times = mean_s(coarse.latency_steps), mean_s(fine.latency_steps, STEP_S / 4)
    assert times[0] == pytest.approx(times[1], rel=0.03)


def test_more_gpus_never_wait_longer() -> None:
    settings = replace(SETTINGS, max_replicas=8, request_timeout_s=200)
    waits = []
    for number in (1, 2, 3, 4, 6):
        fed = fleet(number, settings)
        feed(fed, 20, 200)
        waits.append(mean_s(fed.wait_steps))
    assert waits == sorted(waits, reverse=True)
    assert waits[0] > 10 * STEP_S
    assert waits[-1] < STEP_S


def test_a_replica_that_goes_first_answers_what_it_has() -> None:
    fed = fleet(4)
    feed(fed, 20, 60)
    before = fed.num_inside
    assert before > 20
    fed.scale(1)
    fed.step(0)
    assert (fed.state != ABSENT).sum() == 4
    feed(fed, 0, 28)
    assert fed.num_inside == fed.timed_out == fed.refused == 0
    assert (fed.state != ABSENT).sum() == 1


def test_nobody_waits_longer_than_the_deadline() -> None:
    fed = fleet(1)
    feed(fed, 40, 100)
    assert fed.timed_out > 0
    assert fed.latency_steps.nonzero()[0].max() * STEP_S <= SETTINGS.request_timeout_s + STEP_S


def test_engine_load_costs_less_than_the_peaks_fleet() -> None:
    fixed, _, _, by_load = a_flash_crowd(0)
    assert by_load.gpu_hours < 0.9 * fixed.gpu_hours
    assert 1 <= min(by_load.num_ready) < max(by_load.num_ready) <= 12
    assert by_load.fleet.arrived == fixed.fleet.arrived


def test_the_same_seed_prints_the_same_numbers() -> None:
    (first, again), other = (a_flash_crowd(3, 900)[3] for _ in range(2)), a_flash_crowd(4, 900)[3]
    assert (first.gpu_hours, first.num_ready) == (again.gpu_hours, again.num_ready)
    assert first.fleet.latency_steps.tolist() == again.fleet.latency_steps.tolist()
    assert first.fleet.arrived != other.fleet.arrived


def test_two_numbers_of_the_benchmark_give_the_engines_times() -> None:
    rate = SERVICE.max_rate(32)
    found = ServiceTimes.from_bench(SERVICE.time_s(1), rate, 32, "")
    assert (found.fixed_s, found.per_request_s) == pytest.approx((1.0, 0.1))
    with pytest.raises(ValueError, match="do not fit"):
        ServiceTimes.from_bench(1.0, 40.0, 32, "")
    assert "ASSUMED" in PROFILES["assumed-gpu"].source


def test_nobody_waits_at_the_handles_while_a_replica_has_room() -> None:
    fed = fleet(4)
    num_ongoing = []
    for seed in range(300):
        feed(fed, 40, STEP_S, seed)
        if fed.num_queued:
            num_ongoing.append((fed.num_running + fed.num_waiting)[fed.state == READY].min())
    assert num_ongoing
    assert min(num_ongoing) == SETTINGS.max_ongoing_requests


class RouterOnCounts(ClipRouter):
    """The product's, with a ring and counts given to it, and nothing of Serve's around it."""

    def __init__(self, ring: Ring, num_replicas: int) -> None:
        self._deployment_id = "Generator"
        self.initialize_state()
        self._num_fallback_replicas = num_replicas - 1
        self._ring_hashes = [int(place * 2**64) for place in ring.places]
        self._ring_replicas = ring.owners
        self._replica_set_snapshot = frozenset(ring.owners)
        self._replicas = {row: SimpleNamespace(replica_id=row) for row in ring.owners}
        self.ongoing = Counter[int]()

    def _num_ongoing(self, replica_id: Any) -> int:
        return self.ongoing[replica_id]

    async def send(self, clip: str, max_ongoing: int) -> int:
        """To the first that does not refuse."""
        metadata = SimpleNamespace(session_id=clip)
        request = SimpleNamespace(metadata=metadata, routing_context=SimpleNamespace())
        ranks = await self.choose_replicas(list(self._replicas.values()), request)
        chosen = next(r for (r,) in ranks if self.ongoing[r.replica_id] < max_ongoing)
        self.ongoing[chosen.replica_id] += 1
        return int(chosen.replica_id)


async def test_a_request_goes_where_the_products_router_sends_it() -> None:
    """Five of six replicas, half of all requests about one clip, from empty to all but full and back."""
    max_ongoing, chance = 24, random.Random(1)
    ring = Ring(6, np.random.default_rng(1))
    ring.set_ready(np.arange(6) != 2)
    router = RouterOnCounts(ring, 5)
    inside: list[int] = []
    for share_done in (0, 0.3, 0.1, 0.2, 0.9, 0.5):
        chance.shuffle(inside)
        done = inside[: int(share_done * len(inside))]
        inside, router.ongoing = inside[len(done) :], router.ongoing - Counter(done)
        clips = [chance.choice(["the hot clip", str(chance.random())]) for _ in range(40)]
        clips = clips[: 5 * max_ongoing - 1 - len(inside)]
        ongoing = np.array([router.ongoing[row] for row in range(6)])
        keys = np.array([_hash_bytes(clip.encode()) / 2**64 for clip in clips])
        sent = [await router.send(clip, max_ongoing) for clip in clips]
        rows, before = ring.place(keys, ongoing, max_ongoing)
        assert rows.tolist() == sent
        assert max(before) < max_ongoing
        inside += sent
    assert 2 not in inside


def test_the_numbers_are_those_of_the_file_or_what_is_given_in_their_place() -> None:
    found = read_deployed(CONFIG, start_s=60)
    assert found.fleet == FleetSettings(
        max_replicas=8,
        start_s=60,
        max_num_seqs=64,
        max_ongoing_requests=96,
        num_ingress_replicas=8,
        max_queued_requests=128,
        max_in_flight=128,
        request_timeout_s=28,
    )
    assert found.autoscaling.target_ongoing_requests == 32
    larger = read_deployed(CONFIG, 60, 3, 100, 4, {"target_seqs_share": 0.75})
    assert (larger.fleet.max_replicas, larger.fleet.num_ingress_replicas) == (100, 100)
    assert (larger.fleet.max_num_seqs, larger.fleet.max_ongoing_requests) == (4, 6)
    assert larger.autoscaling.min_replicas == larger.autoscaling.target_ongoing_requests == 3
    assert larger.autoscaling.downscale_delay_s == found.autoscaling.downscale_delay_s
    with pytest.raises(ValueError, match="need an autoscaling_config"):
        read_deployed(CONFIG.with_name("serve.two-replicas.yaml"), 60)
