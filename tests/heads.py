"""Head nodes of Ray that tests start."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from lib.ports import free_port

START_TIMEOUT_S = 120
OWN_PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port")
MORE_PORTS = ("ray-client-server-port", "metrics-export-port", "runtime-env-agent-port")


@dataclass(frozen=True)
class Head:
    """A running head node."""

    address: str
    dashboard_url: str
    environment: dict[str, str]
    process: psutil.Process


@contextmanager
def running_head(log: Path) -> Iterator[Head]:
    """`ray start --head`, with ports of its own, and `emotion-llama` on the path of its jobs."""
    ports = {name: free_port() for name in (*OWN_PORTS, *MORE_PORTS)}
    bin_folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    command = [str(bin_folder / "ray"), "start", "--head", "--block", "--num-cpus=4"]
    command += ["--node-ip-address=127.0.0.1", "--disable-usage-stats"]
    command += [f"--{name}={port}" for name, port in ports.items()]
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    dashboard_url = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        _wait_until_up(dashboard_url, process, log)
        address = f"127.0.0.1:{ports['port']}"
        yield Head(address, dashboard_url, environment, psutil.Process(process.pid))
    finally:
        owned = psutil.Process(process.pid)
        for each in (*owned.children(recursive=True), owned):
            each.kill()  # a head that is asked to end takes half a minute over it
        process.wait()


def _wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/api/version", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    pytest.fail(f"the head node does not start:\n{log.read_text()}")
