"""The Generator's autoscaling policy over contexts as Serve makes them, and its settings."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from serve_app.autoscaling import EngineLoadPolicy
from serve_app.types import EngineLoad

MAX_NUM_SEQS, HALF_RATE_SEQS = 64, 16
CONFIG = AutoscalingConfig(target_ongoing_requests=48, max_replicas=1000)
IDLE = EngineLoad(0, 0, 0, MAX_NUM_SEQS)
AT_TARGET = EngineLoad(0.7 * MAX_NUM_SEQS, 0, 0.2, MAX_NUM_SEQS)
FULL = EngineLoad(MAX_NUM_SEQS, 32, 0.5, MAX_NUM_SEQS)


def context(
    loads: Sequence[EngineLoad | None],
    *,
    num_queued: float = 0,
    num_requests: float = 0,
    target: int | None = None,
    bounds: tuple[int, int] = (0, 1000),
) -> AutoscalingContext:
    """The context of running replicas with these loads; None: not reported yet."""
    replicas = [f"replica-{number}" for number in range(len(loads))]
    metrics = {
        field.name: {
            replica: getattr(load, field.name)
            for replica, load in zip(replicas, loads, strict=True)
            if load is not None
        }
        for field in fields(EngineLoad)
    }
    known: dict[str, Any] = dict.fromkeys(
        ("deployment_id", "app_name", "last_scale_up_time", "last_scale_down_time", "current_time")
    )
    return AutoscalingContext(
        **known,
        deployment_name="Generator",
        current_num_replicas=len(loads),
        target_num_replicas=len(loads) if target is None else target,
        running_replicas=replicas,
        total_num_requests=num_requests,
        total_queued_requests=num_queued,
        aggregated_metrics=metrics,
        raw_metrics=None,
        capacity_adjusted_min_replicas=bounds[0],
        capacity_adjusted_max_replicas=bounds[1],
        policy_state={},
        config=CONFIG,
    )


def wanted(loads: Sequence[EngineLoad | None], **others: Any) -> int:
    policy = EngineLoadPolicy(target_seqs_share=0.7, max_upscale_factor=2)
    return policy(context(loads, **others))[0]


@pytest.mark.parametrize(
    ("loads", "others", "expected"),
    [
        ([AT_TARGET] * 4, {}, 4),
        ([FULL], {}, 2),
        ([FULL] * 4, {}, 8),
        ([AT_TARGET] * 4, {"num_queued": 45}, 6),
        ([EngineLoad(20, 0, 0.9, MAX_NUM_SEQS)] * 4, {}, 5),
        ([EngineLoad(20, 20, 0.9, MAX_NUM_SEQS)] * 4, {}, 8),
        ([EngineLoad(0.35 * MAX_NUM_SEQS, 0, 0.2, MAX_NUM_SEQS)] * 20, {}, 19),
        ([EngineLoad(10, 0, 0.2, MAX_NUM_SEQS)] * 20, {}, 18),
        ([IDLE] * 4, {}, 3),
    ],
    ids=[
        "at its targets it stays",
        "one that is full gets a second",
        "no more than a doubling at a time",
        "what queues at the handles counts",
        "a full cache counts although the batch has room",
        "what waits for the cache will need it too",
        "a batch of half the size is not half the work",
        "down by a tenth of the replicas",
        "down by one at least",
    ],
)
def test_replicas_follow_what_saturates_an_engine(
    loads: list[EngineLoad], others: dict[str, Any], expected: int
) -> None:
    assert wanted(loads, **others) == expected


@pytest.mark.parametrize("signal", ["num_running", "num_waiting", "kv_cache_usage", "num_queued"])
def test_more_load_never_wants_fewer_replicas(signal: str) -> None:
    wants = []
    for share in range(21):
        full = {"num_running": 64, "num_waiting": 200, "kv_cache_usage": 1.0}
        load = {"num_running": 10.0, "num_waiting": 0.0, "kv_cache_usage": 0.1}
        if signal in load:
            load[signal] += (full[signal] - load[signal]) * share / 20
        queued = 1000 * share / 20 if signal == "num_queued" else 0
        wants.append(wanted([EngineLoad(**load, max_num_seqs=64)] * 3, num_queued=queued))
    assert wants == sorted(wants)
    assert wants[0] < wants[-1]


@pytest.mark.parametrize("loads", [[FULL] * 3, [IDLE] * 3, [], [None, None, None]])
@pytest.mark.parametrize("bounds", [(3, 3), (2, 4), (4, 4)])
def test_the_bounds_hold_whatever_the_load(
    loads: list[EngineLoad | None], bounds: tuple[int, int]
) -> None:
    for num_queued in (0, 10_000):
        assert bounds[0] <= wanted(loads, num_queued=num_queued, bounds=bounds) <= bounds[1]


def test_a_constant_load_comes_to_rest() -> None:
    """The load is spread over the running replicas, with a cache usage of 0.01 each."""
    for num_requests in range(0, 900, 7):
        sizes = [6]
        for _ in range(40):
            each = num_requests / sizes[-1]
            running = min(each, MAX_NUM_SEQS)
            load = EngineLoad(running, each - running, min(1.0, 0.01 * running), MAX_NUM_SEQS)
            sizes.append(wanted([load] * sizes[-1], bounds=(1, 1000)))
        assert sizes in (sorted(sizes), sorted(sizes, reverse=True)), num_requests
        assert sizes[-1] == sizes[20], num_requests


def test_between_two_sizes_it_does_not_flap() -> None:
    """A load that two replicas could barely carry stays on three."""
    for share, expected in ((0.8, 2), (0.9, 3), (1.0, 3), (1.1, 3)):
        rate = share * 2 / 3 * AT_TARGET.num_running / (AT_TARGET.num_running + HALF_RATE_SEQS)
        load = EngineLoad(HALF_RATE_SEQS * rate / (1 - rate), 0, 0, MAX_NUM_SEQS)
        assert wanted([load] * 3) == expected
    assert wanted([EngineLoad(20, 0, 0.8, MAX_NUM_SEQS)] * 3) == 3, "a mean is a float"


def test_the_last_replica_goes_only_when_nothing_is_asked() -> None:
    assert wanted([IDLE]) == 0
    assert wanted([IDLE], num_queued=0.1) == 1
    assert wanted([EngineLoad(0.1, 0, 0, MAX_NUM_SEQS)]) == 1


def test_while_replicas_start_a_growing_queue_asks_for_no_more() -> None:
    assert wanted([FULL], num_queued=100) == 2
    assert wanted([FULL], num_queued=500, target=2) == 2
    assert wanted([FULL, FULL], num_queued=500, target=2) == 4


def test_a_fresh_replica_is_neither_idle_nor_a_reason_to_grow() -> None:
    assert wanted([FULL, None]) == wanted([FULL, IDLE]) == 2
    half = EngineLoad(10, 0, 0.2, MAX_NUM_SEQS)
    assert wanted([half, None]) == 2
    assert wanted([half, IDLE]) == 1


def test_before_any_report_serves_own_count_decides() -> None:
    assert wanted([None, None], num_requests=48 * 3) == 3
    assert wanted([None] * 10, num_requests=0) == 9


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"target_seq_share": 0.7}, "target_seq_share"),
        ({"target_seqs_share": 0}, "target_seqs_share"),
        ({"target_kv_cache_usage": 80}, "target_kv_cache_usage"),
        ({"max_upscale_factor": 1}, "max_upscale_factor"),
        ({"max_downscale_share": 0}, "max_downscale_share"),
        ({"tolerance": 1}, "tolerance"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, float], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        EngineLoadPolicy(**settings)
