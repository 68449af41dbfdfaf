"""A scenario in which hosts are drained, die, are cut off, and come back, under load."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx

from faults.cluster import write_config
from faults.hosts import NETWORK, Host, running_hosts
from faults.load import CLIENT_TIMEOUT_S, prepared, until
from serve_app.serve_config import load_serve_config

GENERATOR = "ServeReplica:emotion-llama:Generator"
CUT_OFF_S = 10.0


async def hosts(folder: Path, num_clients: int, seconds: float) -> dict[str, Any]:
    """Two Generators on three hosts. One host is drained and restarted, one is killed, and one is cut off for
    10 s, comes back and must serve.
    """
    with running_hosts(3, folder) as (head, *workers):
        url = await _serve(head, folder)
        load = await prepared(url, folder)
        by_step = {}
        async with load.running(num_clients):
            await asyncio.sleep(seconds / 4)
            leaving = _with_generator(workers)
            leaving.terminate()
            await until(lambda: _has_ended(leaving))
            by_step["host_drained"] = load.figures()
            leaving.start_ray()
            await until(lambda: _has_joined(leaving))

            victim = _with_generator(workers)
            victim.kill()
            spare = [each for each in workers if each is not victim]
            await until(lambda: _all_run(spare))
            await asyncio.sleep(seconds / 4)
            by_step["host_killed"] = load.figures()

            cut = spare[0]
            cut.cut_off()
            await asyncio.sleep(CUT_OFF_S)
            cut.reconnect()
            await asyncio.sleep(seconds / 4)
            by_step["host_cut_off"] = load.figures()

            if not cut.is_up:  # as a supervisor would
                cut.start_ray()
            await until(lambda: _all_run([cut]))
            spare[1].kill()
            await asyncio.sleep(seconds / 4)
            num_before = load.num_answered
            await until(lambda: _has_more(load, num_before))
            by_step["host_back"] = load.figures()
    longest_s = max(load.latencies_s)
    broken = [] if longest_s < CLIENT_TIMEOUT_S else ["a request hung"]
    return load.figures() | {"by_step": by_step, "broken": broken}


async def _serve(head: Host, folder: Path) -> str:
    """Runs `emotion-llama serve` on the head, as an operator would; returns its URL."""
    generator = {"num_replicas": 2}
    front = {"access": {"open": True}}  # the network is private to this machine
    path = write_config(folder, generator, folder, head.address, **front)
    command = str(Path(sys.executable).parent / "emotion-llama")
    head.start(command, "serve", "--config", str(path), "--address", f"{NETWORK}.1:6379")
    port = load_serve_config(path).http_options.port
    url = f"http://{head.address}:{port}"
    await until(lambda: _is_ready(url))
    return url


async def _is_ready(url: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=5) as http:
            return (await http.get(f"{url}/readyz")).is_success
    except httpx.TransportError:
        return False


def _with_generator(workers: list[Host]) -> Host:
    return next(host for host in workers if host.runs(GENERATOR))


async def _has_ended(host: Host) -> bool:
    return not host.is_up


async def _has_joined(host: Host) -> bool:
    return host.has_joined


async def _all_run(workers: list[Host]) -> bool:
    return all(host.runs(GENERATOR) for host in workers)


async def _has_more(load: Any, num_before: int) -> bool:
    return bool(load.num_answered > num_before + 20)
