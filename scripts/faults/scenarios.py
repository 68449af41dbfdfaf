"""Scenarios of faults on a server under load. Each returns its figures; `num_failed` should be 0."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import psutil

from faults.affinity_scenario import affinity
from faults.cluster import APP_NAME, fake_cluster, write_config
from faults.host_scenario import hosts
from faults.load import prepared, until
from faults.scale_scenarios import has_generators, scale, zero
from serve_app.serve_config import load_serve_config
from serve_app.server import deploy, running_server

Figures = dict[str, Any]


async def kills(folder: Path, num_clients: int, seconds: float, gpus_per_node: int = 2) -> Figures:
    """A Generator is killed every 10 s, and half-way a node is removed."""
    every_s = 10.0
    with fake_cluster(4, gpus_per_node) as cluster:
        generator = {"num_replicas": 4 * gpus_per_node}
        config = load_serve_config(write_config(folder, generator, folder))
        with running_server(config, cluster.address) as url:
            load = await prepared(url, folder)
            started = time.monotonic()
            num_kills = 0
            async with load.running(num_clients):
                while time.monotonic() - started < seconds:
                    await asyncio.sleep(every_s)
                    cluster.kill_one("Generator")
                    num_kills += 1
                    if num_kills == max(1, int(seconds / every_s / 2)):
                        await cluster.remove_node()
            return load.figures() | {"num_kills": num_kills, "num_nodes_removed": 1}


async def rollout(folder: Path, num_clients: int, seconds: float) -> Figures:
    """A new configuration is deployed: every replica is replaced."""
    generator = {"num_replicas": 1, "max_surge_percent": 100}
    with fake_cluster(2) as cluster:
        config = load_serve_config(write_config(folder, generator, folder))
        with running_server(config, cluster.address) as url:
            load = await prepared(url, folder)
            changed = write_config(folder, generator, folder, model_name="new")
            new = load_serve_config(changed)
            new.http_options = config.http_options
            async with load.running(num_clients):
                await asyncio.sleep(seconds / 2)
                started = time.monotonic()
                await asyncio.to_thread(deploy, new)
                await until(lambda: _is_rolled_out(url, "new"))
                took_s = time.monotonic() - started
                await asyncio.sleep(seconds / 2)
            return load.figures() | {"rollout_s": round(took_s, 1)}


async def hang(folder: Path, num_clients: int, seconds: float) -> Figures:
    """One of two engines stops and does not end: its replica is replaced."""
    with fake_cluster(2) as cluster:
        generator, engine = {"num_replicas": 2}, {"stall_timeout_s": 5.0}
        config = load_serve_config(write_config(folder, generator, folder, engine=engine))
        with running_server(config, cluster.address) as url:
            load = await prepared(url, folder)
            async with load.running(num_clients):
                await asyncio.sleep(seconds / 2)
                hung = cluster.suspend_an_engine()
                started = time.monotonic()
                await until(lambda: _is_gone(hung))
                gone_after_s = time.monotonic() - started
                await until(_has_noticed)
                await until(lambda: has_generators(2))
                replaced_after_s = time.monotonic() - started
                await asyncio.sleep(seconds / 2)
            return load.figures() | {
                "gone_after_s": round(gone_after_s, 1),
                "replaced_after_s": round(replaced_after_s, 1),
            }


async def ingress(folder: Path, num_clients: int, seconds: float) -> Figures:
    """An ingress replica is killed, twice: clients that retry lose nothing."""
    with fake_cluster(1) as cluster:
        config = load_serve_config(write_config(folder, {"num_replicas": 1}, folder))
        with running_server(config, cluster.address) as url:
            patient, plain = await prepared(url, folder, max_tries=3), await prepared(url, folder)
            async with patient.running(num_clients // 2), plain.running(num_clients // 2):
                for _ in range(2):
                    await asyncio.sleep(seconds / 3)
                    cluster.kill_one("Ingress")
                await asyncio.sleep(seconds / 3)
            without = plain.figures()
            return patient.figures() | {
                "num_failed_without_retry": without["num_failed"],
                "num_answered_without_retry": without["num_answered"],
                "failures_without_retry": without["failures"],
            }


async def _has_noticed() -> bool:
    """Serve goes on calling a dead replica running for a while."""
    return not await has_generators(2)


async def _is_gone(process: psutil.Process) -> bool:
    return not process.is_running()


async def _is_rolled_out(url: str, model_name: str) -> bool:
    """Whether the new configuration answers and nothing of the old one is left."""
    from ray import serve

    async with httpx.AsyncClient(timeout=10) as http:
        models = (await http.get(f"{url}/v1/models")).json()
    application = (await asyncio.to_thread(serve.status)).applications[APP_NAME]
    is_new = bool(models["data"][0]["id"] == model_name)
    return is_new and application.status == "RUNNING"


SCENARIOS: dict[str, Callable[..., Coroutine[Any, Any, Figures]]] = {
    each.__name__: each for each in (kills, hang, rollout, scale, zero, ingress, hosts, affinity)
}
