"""Scenarios in which our policy scales Generators: with a load step, and to zero and back."""

import asyncio
import time
from pathlib import Path
from typing import Any

from faults.cluster import APP_NAME, fake_cluster, write_config
from faults.load import prepared, until
from serve_app.serve_config import LOAD_POLICY, load_serve_config
from serve_app.server import running_server

MAX_REPLICAS = 4
ENGINE = {"max_num_seqs": 8}
SCALING: dict[str, Any] = {
    "min_replicas": 1,
    "max_replicas": MAX_REPLICAS,
    "upscale_delay_s": 1,
    "downscale_delay_s": 5,
    "look_back_period_s": 12,  # replicas report every 10 s
    "policy": {
        "policy_function": LOAD_POLICY,
        # Two requests fill an engine to its target.
        "policy_kwargs": {"target_seqs_share": 0.25, "max_downscale_share": 1},
    },
}
TO_ZERO: dict[str, Any] = {"min_replicas": 0, "downscale_to_zero_delay_s": 5}
START_TIMEOUT_S = 150.0  # without an engine a request waits until one has started


async def scale(folder: Path, num_clients: int, seconds: float) -> dict[str, Any]:
    """A load step scales from one Generator to four, and back."""
    with fake_cluster(MAX_REPLICAS) as cluster:
        path = write_config(folder, {"autoscaling_config": SCALING}, folder, engine=ENGINE)
        with running_server(load_serve_config(path), cluster.address) as url:
            load = await prepared(url, folder)
            async with load.running(1):
                await asyncio.sleep(seconds / 4)
                async with load.running(num_clients):
                    up_s = await _seconds_until(MAX_REPLICAS)
                    await asyncio.sleep(seconds / 2)
                down_s = await _seconds_until(1)
                await asyncio.sleep(seconds / 4)
            return load.figures() | {"up_s": up_s, "down_s": down_s}


async def zero(folder: Path, num_clients: int, seconds: float) -> dict[str, Any]:
    """Without requests the last Generator is removed; then all clients ask at once."""
    limits = {"request_timeout_s": START_TIMEOUT_S}
    generator = {"autoscaling_config": SCALING | TO_ZERO}
    with fake_cluster(MAX_REPLICAS) as cluster:
        path = write_config(folder, generator, folder, engine=ENGINE, limits=limits)
        with running_server(load_serve_config(path), cluster.address) as url:
            load = await prepared(url, folder, timeout_s=START_TIMEOUT_S)
            down_s = await _seconds_until(0)
            started = time.monotonic()
            async with load.running(num_clients):
                await until(load.has_answered)
                first_answer_s = time.monotonic() - started
                await asyncio.sleep(seconds)
            again_down_s = await _seconds_until(0)
            return load.figures() | {
                "down_s": down_s,
                "first_answer_s": round(first_answer_s, 1),
                "again_down_s": again_down_s,
            }


async def _seconds_until(num_generators: int) -> float:
    started = time.monotonic()
    await until(lambda: has_generators(num_generators))
    return round(time.monotonic() - started, 1)


async def has_generators(number: int) -> bool:
    """Exactly so many, all of them running."""
    from ray import serve

    application = (await asyncio.to_thread(serve.status)).applications[APP_NAME]
    states = application.deployments["Generator"].replica_states
    return dict(states) == ({"RUNNING": number} if number else {})
