"""Starts Ray Serve on this machine (or a given cluster), deploys a config and waits until it is ready."""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from serve_app import proxy
from serve_app.api_keys import KEYS_VARIABLE
from serve_app.checkpoint import (
    compare_with_manifest,
    hash_files,
    read_image_size,
)
from serve_app.errors import ConfigurationError, NotReadyError
from serve_app.exposure import check_exposure
from serve_app.forwarder import forwarding
from serve_app.ray_start import prepare_ray_environment, start_ray
from serve_app.serve_config import app_settings
from serve_app.settings import LimitSettings

READY_TIMEOUT_S = 600.0


@contextmanager
def running_server(config: Any, address: str | None = None) -> Iterator[str]:
    """Run the server of a loaded config while the block runs. Yields its URL once it is ready.

    Args:
        config: a ServeDeploySchema.
        address: address of a running Ray cluster; None starts one for this process alone.

    Raises:
        ConfigurationError: the port is taken.
        CheckpointError: the model cannot be used.
        NotReadyError: a deployment failed, or did not become ready in time.
    """
    host, port = config.http_options.host, config.http_options.port
    settings = app_settings(config)
    _check_model(settings.model)
    check_exposure(host, settings.access)
    if address is not None and os.environ.get(KEYS_VARIABLE):
        raise ConfigurationError(
            f"keys in {KEYS_VARIABLE} do not reach a running cluster; use access.keys_file"
        )
    for each in (port, *settings.extra_ports):
        check_port(host, each)
    _prepare_serve_environment(settings.limits)
    import ray
    from ray import serve

    start_ray(address, "serve", settings.metrics_port)
    with ExitStack() as stack:
        stack.callback(ray.shutdown)
        deploy(config)
        # Drains and ends our application only: a cluster that was running before keeps its others.
        stack.callback(serve.delete, config.applications[0].name)
        url = f"http://{host}:{port}"
        _wait_until_ready(url, config.applications[0].name)
        stack.enter_context(forwarding(host, settings.extra_ports, port))
        yield url


def wait_for_signal() -> None:
    """Block until SIGINT or SIGTERM. Call it inside `running_server`: Ray's start replaces handlers."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()


def _prepare_serve_environment(limits: LimitSettings) -> None:
    """Set variables that Serve's processes read when they start. The operator's own values win."""
    prepare_ray_environment()
    os.environ.setdefault(proxy.CALLBACK_VARIABLE, proxy.CALLBACK)
    os.environ[proxy.MAX_BODY_BYTES_VARIABLE] = str(limits.max_body_bytes)
    # uvicorn trusts X-Forwarded-For from these addresses. Its default is loopback, from which any client of
    # this machine or of the second port seems to come.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    # One event loop per replica instead of three threads: fewer hand-overs per request
    # (docs/performance.md). Nothing of ours blocks a loop once it serves.
    os.environ.setdefault("RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD", "0")
    os.environ.setdefault("RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP", "0")


def _check_model(directory: Path) -> None:
    """Check the model before anything is started: a replica would fail three times, with a traceback."""
    read_image_size(directory)
    if not compare_with_manifest(directory, hash_files(directory)):
        return
    # Imported only now because it loads torch, to name the tensors at fault.
    from serve_app.check import open_checkpoint

    open_checkpoint(directory)


def check_port(host: str, port: int) -> None:
    """Raises ConfigurationError: the port is in use, or the address is not this machine's."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from error


def deploy(config: Any) -> None:
    """Deploy to this cluster's Serve, starting Serve if needed. Does not wait for the deployments."""
    # What `serve run FILE` does; there is no public function for it. Ray is pinned exactly.
    from ray.serve._private.api import serve_start

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    client = serve_start(
        http_options=config.http_options.model_dump(),
        proxy_location=config.proxy_location,
        global_logging_config=config.logging_config,
    )
    client.deploy_apps(config, _blocking=False)


def _wait_until_ready(url: str, app_name: str) -> None:
    from ray import serve

    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        application = serve.status().applications.get(app_name)
        if application is not None and application.status.endswith("FAILED"):
            reasons = [application.message]
            reasons += [status.message for status in application.deployments.values()]
            raise NotReadyError("; ".join(reason for reason in reasons if reason))
        try:
            if httpx.get(f"{url}/readyz", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass  # the proxy is not up yet
        time.sleep(0.2)
    raise NotReadyError(f"not ready after {READY_TIMEOUT_S:.0f} s")
