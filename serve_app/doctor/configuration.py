"""Checks serve.yaml, the ports and folders it names, and the model directory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serve_app.checkpoint import hash_files, read_image_size
from serve_app.doctor.finding import Finding, ok, problem, warning
from serve_app.errors import CheckpointError, ConfigurationError
from serve_app.exposure import check_exposure
from serve_app.serve_config import app_settings
from serve_app.server import check_port
from serve_app.settings import MIB, AppSettings


def check_configuration(config: Any, looks_at_ports: bool) -> Iterator[Finding]:
    """Checks a config against this machine.

    Args:
        config: a ServeDeploySchema.
        looks_at_ports: False if the server is running already and uses them.
    """
    settings = app_settings(config)
    host, port = config.http_options.host, config.http_options.port
    if looks_at_ports:
        for each in filter(None, (port, *settings.extra_ports, settings.metrics_port)):
            yield _check_port(host, each)
    yield _check_access(host, settings)
    for root in settings.media.allowed_roots:
        if not root.is_dir():
            seen = f"media.allowed_roots has {root}, which is not a folder"
            yield warning("allowed roots", seen, "create it, or correct the config")


def _check_port(host: str, port: int) -> Finding:
    try:
        check_port(host, port)
    except ConfigurationError as error:
        advice = (
            "stop what uses it (ss -ltnp), choose another, or check a running server with --url"
        )
        return problem(f"port {port}", error.message, advice)
    return ok(f"port {port}", f"free at {host}")


def _check_access(host: str, settings: AppSettings) -> Finding:
    try:
        check_exposure(host, settings.access)
    except ConfigurationError as error:
        return problem("access", error.message, "docs/http.md, Keys and rate limits")
    return ok("access", f"http_options.host is {host}")


def weights_bytes(directory: Path) -> int:
    """Total size of the model's safetensors files; 0 if there are none."""
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def check_model(directory: Path) -> Iterator[Finding]:
    """Checks a model directory completely: reads every byte of it."""
    from serve_app.check import find_problems  # imported here because it imports torch

    advice = f"emotion-llama check {directory} says more; convert or copy it again"
    try:
        read_image_size(directory)
        hashes = hash_files(directory)
        found = find_problems(directory, hashes)
    except CheckpointError as error:
        found = [error.message]
    for each in found:
        yield problem("model", each, advice)
    if not found:
        size = weights_bytes(directory) // MIB
        yield ok("model", f"{directory}: complete, {len(hashes)} files, {size} MiB of weights")
