"""The machines of a running Ray cluster: each looks at itself, and what must be equal is compared."""

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
CONNECT_TIMEOUT_S = 5.0  # of ours: Ray itself tries for minutes
NODE_TIMEOUT_S = 60.0  # a process starts there, and tries what vLLM imports
MODEL_TIMEOUT_S = 600.0  # where it reads every byte of a model, too
ALL_NODES = "all nodes"
MODEL = "model sha256"


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a node found on itself."""

    findings: list[Finding]
    compared: dict[str, str]  # versions, and the model's hash; without what is not there


def check_cluster(address: str, containers: Iterable[str], model: Path | None) -> Iterator[Finding]:
    """Args:
    address: of the cluster's GCS, such as 10.0.0.1:6379; "auto": of the cluster that runs on this machine.
    containers: media.containers.
    model: a directory that each node has at this path; None: none is looked at.
    """
    prepare_ray_environment()
    import ray

    try:
        _check_reachable(address)
        start_ray(address, NAMESPACE)
    except (ConfigurationError, OSError, RuntimeError, ray.exceptions.RayError) as error:
        seen = f"{address}: {' '.join(str(error).split())}"
        yield problem("cluster", seen, "give HOST:PORT of its head, or auto there")
        return
    try:
        yield from check_nodes(containers, model, MODEL_TIMEOUT_S if model else NODE_TIMEOUT_S)
    finally:
        ray.shutdown()


def check_nodes(
    containers: Iterable[str], model: Path | None, timeout_s: float
) -> Iterator[Finding]:
    """Of the cluster that this process is connected to. All nodes look at once, and are told in turn."""
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
                problem("node", seen, "is it cut off, or busy; ray list nodes"), node=name
            )
            continue
        try:
            reports[name] = ray.get(task)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            yield replace(problem("node", reason, f"{SETUP} there; ray list nodes"), node=name)
            continue
        for finding in reports[name].findings:
            yield replace(finding, node=name)
    for finding in compare({name: report.compared for name, report in reports.items()}):
        yield replace(finding, node=ALL_NODES)


def look_at_node(containers: tuple[str, ...], model: Path | None) -> NodeReport:
    """Runs on the node."""
    findings = [*check_software(containers), *check_machine(weights_bytes(model) if model else 0)]
    named = {"Python": platform.python_version(), PACKAGE: installed_version(PACKAGE)}
    named |= installed_versions()
    if model is not None:
        findings += check_model(model)
        named[MODEL] = _model_sha256(model)
    return NodeReport(findings, {name: seen for name, seen in named.items() if seen is not None})


def compare(nodes: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    """`nodes`: of each by its name, what it has of what all must have alike."""
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
            yield problem(name, seen, "bring all nodes to the same: one image, one model directory")


def _comparable(name: str, seen: str) -> str:
    """Without its build: the images of CPUs and of GPUs have the same version of different builds."""
    return seen if name == MODEL else Version(seen).public


def _model_sha256(directory: Path) -> str | None:
    """By its manifest, which check_model holds against the files; None without one."""
    try:
        manifest = read_manifest(directory)
    except CheckpointError:
        return None
    return None if manifest is None else str(manifest["sha256"])


def _check_reachable(address: str) -> None:
    """Raises ConfigurationError: not an address. OSError: nobody listens there."""
    if address == "auto":
        return
    found = ADDRESS.fullmatch(address)
    if found is None:  # `local` would start a cluster
        raise ConfigurationError("expected HOST:PORT or auto")
    socket.create_connection((found["host"], int(found["port"])), CONNECT_TIMEOUT_S).close()


def _name(node: Mapping[str, str]) -> str:
    """Its first part alone may be that of several: nodes of one machine."""
    return f"{node['NodeManagerHostname']} {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
