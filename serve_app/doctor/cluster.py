"""Checks the nodes of a running Ray cluster: each checks itself, and what must be equal is compared."""

import platform
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.version import Version

from serve_app.checkpoint import read_manifest
from serve_app.doctor.configuration import check_model, weights_bytes
from serve_app.doctor.finding import Finding, ok, problem
from serve_app.doctor.machine import check_machine
from serve_app.doctor.software import PACKAGE, SETUP, check_software
from serve_app.errors import CheckpointError, ConfigurationError
from serve_app.ray_start import prepare_ray_environment, start_ray
from serve_app.versions import installed_version, installed_versions

NAMESPACE = "emotion-llama-doctor"
ADDRESS = re.compile(r"(?P<host>.+):(?P<port>\d{1,5})")
CONNECT_TIMEOUT_S = 5.0  # our own check of the address: Ray itself tries for minutes
NODE_TIMEOUT_S = 60.0  # a process starts on the node and tries to import what vLLM imports
MODEL_TIMEOUT_S = 600.0  # the same, when it also reads every byte of a model
ALL_NODES = "all nodes"
MODEL = "model sha256"


@dataclass(frozen=True, slots=True)
class NodeReport:
    """A node's findings about itself."""

    findings: list[Finding]
    compared: dict[str, str]  # versions, and the model's hash; only what is installed


def check_cluster(address: str, containers: Iterable[str], model: Path | None) -> Iterator[Finding]:
    """Connects to a cluster and checks its nodes.

    Args:
        address: the cluster's GCS, such as 10.0.0.1:6379, or "auto" for the cluster on this machine.
        containers: the setting media.containers.
        model: a model directory that each node has at this path; None checks no model.
    """
    prepare_ray_environment()
    import ray

    try:
        _check_reachable(address)
        start_ray(address, NAMESPACE)
    except (ConfigurationError, OSError, RuntimeError, ray.exceptions.RayError) as error:
        seen = f"{address}: {' '.join(str(error).split())}"
        yield problem(
            "cluster", seen, "give HOST:PORT of its head, or run this on a node with auto"
        )
        return
    try:
        yield from check_nodes(containers, model, MODEL_TIMEOUT_S if model else NODE_TIMEOUT_S)
    finally:
        ray.shutdown()


def check_nodes(
    containers: Iterable[str], model: Path | None, timeout_s: float
) -> Iterator[Finding]:
    """Checks the nodes of the connected cluster: all in parallel, reported one after the other."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(look_at_node)
    tasks = {}
    for node in ray.nodes():
        if node["Alive"]:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = look.options(scheduling_strategy=there).remote(tuple(containers), model)
            tasks[_name(node)] = task
    answered, _ = ray.wait(list(tasks.values()), num_returns=len(tasks), timeout=timeout_s)
    reports = {}
    for name, task in tasks.items():
        if task not in answered:
            ray.cancel(task, force=True)
            seen = f"no answer within {timeout_s:.0f} s"
            yield replace(
                problem("node", seen, "is it cut off or busy? see `ray list nodes`"), node=name
            )
            continue
        try:
            reports[name] = ray.get(task)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            yield replace(
                problem("node", reason, f"{SETUP} there; see `ray list nodes`"), node=name
            )
            continue
        for finding in reports[name].findings:
            yield replace(finding, node=name)
    for finding in compare({name: report.compared for name, report in reports.items()}):
        yield replace(finding, node=ALL_NODES)


def look_at_node(containers: tuple[str, ...], model: Path | None) -> NodeReport:
    """Checks the node that it runs on."""
    findings = [*check_software(containers), *check_machine(weights_bytes(model) if model else 0)]
    named = {"Python": platform.python_version(), PACKAGE: installed_version(PACKAGE)}
    named |= installed_versions()
    if model is not None:
        findings += check_model(model)
        named[MODEL] = _model_sha256(model)
    return NodeReport(findings, {name: seen for name, seen in named.items() if seen is not None})


def compare(nodes: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    """Compares nodes. `nodes` maps a node's name to what must be the same on all nodes that have it."""
    for name in dict.fromkeys(name for compared in nodes.values() for name in compared):
        having: dict[str, list[str]] = {}
        for node, compared in nodes.items():
            if name in compared:
                having.setdefault(_comparable(name, compared[name]), []).append(node)
        if len(having) == 1:
            (seen, having_it), *_ = having.items()
            where = "everywhere" if len(having_it) == len(nodes) else f"on {', '.join(having_it)}"
            yield ok(name, f"{seen} {where}")
        else:
            seen = "; ".join(f"{seen} on {', '.join(nodes)}" for seen, nodes in having.items())
            yield problem(name, seen, "give all nodes the same image and the same model directory")


def _comparable(name: str, seen: str) -> str:
    """A version without its build suffix: images for CPUs and GPUs have different builds of one version."""
    return seen if name == MODEL else Version(seen).public


def _model_sha256(directory: Path) -> str | None:
    """The hash in a model's manifest, which check_model compares with the files; None without a manifest."""
    try:
        manifest = read_manifest(directory)
    except CheckpointError:
        return None
    return None if manifest is None else str(manifest["sha256"])


def _check_reachable(address: str) -> None:
    """Raises ConfigurationError if this is not an address, and OSError if nothing listens there."""
    if address == "auto":
        return
    found = ADDRESS.fullmatch(address)
    if found is None:  # `local` would start a cluster
        raise ConfigurationError("expected HOST:PORT or auto")
    socket.create_connection((found["host"], int(found["port"])), CONNECT_TIMEOUT_S).close()


def _name(node: Mapping[str, str]) -> str:
    """A name for a node. It needs the id: nodes on one machine have the same host name and address."""
    return f"{node['NodeManagerHostname']} {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
