"""A Ray cluster of several nodes on this machine: a head, and nodes that declare a GPU without having one."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from lib.ports import free_port

from serve_app.bundled import DEMO_CHECKPOINT

LAPTOP = Path(__file__).parents[2] / "configs" / "serve.yaml"
APP_NAME = "emotion-llama"
FRONT = "front"  # a resource that only the head has: keeps the ingress where the proxy is
MIB = 1 << 20


@dataclass
class FakeCluster:
    """A cluster whose replicas can be killed and whose nodes can be removed."""

    cluster: Any  # ray.cluster_utils.Cluster
    gpu_nodes: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def replicas(self, deployment: str) -> list[psutil.Process]:
        """Process ids of a deployment's replicas, including those that are still starting."""
        name = f"ServeReplica:{APP_NAME}:{deployment}"
        return [p for p in psutil.Process().children(recursive=True) if _is_named(p, name)]

    def kill_one(self, deployment: str) -> int:
        """Sends SIGKILL to a random replica; returns its pid."""
        victim = random.choice(self.replicas(deployment))
        victim.send_signal(signal.SIGKILL)
        return victim.pid

    def suspend_an_engine(self) -> psutil.Process:
        """SIGSTOP to one of them by chance: it neither answers nor ends."""
        replica = random.choice(self.replicas("Generator"))
        (engine,) = (p for p in replica.children() if "EngineCore" in p.name())
        engine.suspend()
        return engine

    async def remove_node(self) -> None:
        """Removes a node with a GPU and everything on it, without notice."""
        node = self.gpu_nodes.pop()
        await asyncio.to_thread(self.cluster.remove_node, node, allow_graceful=False)


@contextmanager
def fake_cluster(num_gpu_nodes: int, gpus_per_node: int = 1) -> Iterator[FakeCluster]:
    """Starts a cluster; ends it and everything on it when the block ends."""
    # A lost node is noticed in seconds, as with the documented settings of a cluster.
    os.environ.setdefault("RAY_health_check_failure_threshold", "3")
    os.environ.setdefault("RAY_health_check_period_ms", "1000")
    Path(os.environ["RAY_TMPDIR"], "ray").mkdir(parents=True, exist_ok=True)
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 4, "resources": {FRONT: 100}, "object_store_memory": 512 * MIB}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        node = {"num_cpus": 4, "num_gpus": gpus_per_node, "object_store_memory": 256 * MIB}
        nodes = [cluster.add_node(**node) for _ in range(num_gpu_nodes)]
        cluster.wait_for_nodes()
        yield FakeCluster(cluster, nodes)
    finally:
        cluster.shutdown()


def write_config(
    folder: Path,
    generator: dict[str, Any],
    clips: Path,
    host: str = "127.0.0.1",
    **args: Any,
) -> Path:
    """Writes the laptop's configuration, but with two ingress replicas on the head and Generators on GPUs.

    Args:
        generator: changes to the Generator deployment: num_replicas, autoscaling_config, ...
        clips: the folder that may be read.
        host: the address that the proxy listens on.
        args: changes to the application's args.
    """
    raw = yaml.safe_load(LAPTOP.read_text())
    raw["http_options"] |= {"host": host, "port": free_port(), "request_timeout_s": None}
    application = raw["applications"][0]
    application["args"] |= {"model": str(DEMO_CHECKPOINT), "extra_ports": []}
    for name, value in args.items():
        merged = (
            {**application["args"].get(name, {}), **value} if isinstance(value, dict) else value
        )
        application["args"][name] = merged
    application["args"]["media"] |= {"allowed_roots": [str(clips)], "num_decode_workers": 1}
    deployments = {each["name"]: each for each in application["deployments"]}
    for each in deployments.values():
        each["graceful_shutdown_timeout_s"] = application["args"]["limits"]["request_timeout_s"] + 2
    deployments["Ingress"] |= {
        "num_replicas": 2,
        "ray_actor_options": {"num_cpus": 0.1, "resources": {FRONT: 1}},
    }
    for name in ("Preprocessor", "Generator"):
        deployments[name].pop("autoscaling_config")
    deployments["Preprocessor"] |= {"num_replicas": 2, "ray_actor_options": {"num_cpus": 0.1}}
    deployments["Generator"] |= {"ray_actor_options": {"num_cpus": 0.1, "num_gpus": 1}, **generator}
    path = folder / f"serve-{len(list(folder.iterdir()))}.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def _is_named(process: psutil.Process, name: str) -> bool:
    try:
        return name in process.name() or name in " ".join(process.cmdline())
    except psutil.Error:
        return False  # the process has ended meanwhile
