"""The server with HAProxy in place of Serve's proxy, as docs/operations.md starts it."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from lib.ports import free_port

from serve_app.settings import LimitSettings

LAPTOP = Path(__file__).parents[2] / "configs" / "serve.yaml"
START_TIMEOUT_S = 180
PREFIX = "RAY_SERVE_HAPROXY_"
FILES = {
    "CONFIG_FILE_LOC": "haproxy.cfg",
    "SOCKET_PATH": "admin.sock",
    "METRICS_SOCKET_PATH": "metrics.sock",
    "SERVER_STATE_BASE": "",
    "SERVER_STATE_FILE": "server-state",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of an `emotion-llama serve` with ports and files of its own."""
    folder = tmp_path_factory.mktemp("haproxy")
    files = Path(tempfile.mkdtemp(prefix="ha-", dir="/tmp"))  # short: the sockets' paths are long
    raw = yaml.safe_load(LAPTOP.read_text())
    port = raw["http_options"]["port"] = free_port()
    raw["applications"][0]["args"]["extra_ports"] = []
    config = folder / "serve.yaml"
    config.write_text(yaml.safe_dump(raw))
    environment = {**os.environ, "RAY_SERVE_ENABLE_HA_PROXY": "1"}
    environment |= {PREFIX + name: str(files / file) for name, file in FILES.items()}
    environment |= {PREFIX + f"{name}_PORT": str(free_port()) for name in ("METRICS", "STATS")}
    command = [str(Path(sys.executable).parent / "emotion-llama"), "serve", "--config", str(config)]
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    server = psutil.Process(process.pid)
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        # HAProxy outlives a server that is killed: each by its pid, found while their parents live.
        with suppress(psutil.NoSuchProcess):
            for each in (*server.children(recursive=True), server):
                each.kill()
        process.wait()
        shutil.rmtree(files)


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=5).is_success:
                return
        time.sleep(0.3)
    raise AssertionError(log.read_text())


@pytest.mark.serve
def test_haproxy_passes_questions_on_and_bodies_have_their_limit(url: str) -> None:
    host, port = httpx.URL(url).host, httpx.URL(url).port
    assert port is not None
    listeners = [
        psutil.Process(each.pid).name()
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == port
    ]
    assert set(listeners) == {"haproxy"}

    clip = Path(__file__).parents[2] / "serve_app" / "assets" / "samples" / "happy.mp4"
    question = {"question": "[emotion] What?", "temperature": "0"}
    files = {"file": clip.read_bytes()}
    answered = httpx.post(f"{url}/process_video", data=question, files=files, timeout=60)
    assert answered.json() == {"response": "happy"}
    assert httpx.get(f"{url}/-/healthz").is_success, "the readiness probe's other question"

    connection = http.client.HTTPConnection(host, port, timeout=30)
    connection.putrequest("POST", "/process_video")
    connection.putheader("Content-Length", str(LimitSettings().max_body_bytes + 1))
    connection.endheaders()
    with suppress(BrokenPipeError, ConnectionResetError, socket.timeout):
        connection.send(bytes(1 << 20))
    refused = connection.getresponse()
    assert refused.status == 413
    assert refused.headers["X-Error-Code"] == "body_too_large"
    connection.close()
