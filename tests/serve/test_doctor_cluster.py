"""emotion-llama doctor on the nodes of a real cluster: the one that serves the other tests."""

import subprocess
import sys

import ray

from serve_app.bundled import DEMO_CHECKPOINT
from serve_app.checkpoint import read_manifest
from serve_app.doctor.cluster import ALL_NODES, MODEL, check_nodes
from serve_app.settings import MediaSettings


def node_of_the_server() -> str:
    (node,) = ray.nodes()
    return f"{node['NodeManagerHostname']} {node['NodeManagerAddress']} ({node['NodeID'][:8]})"


def test_every_node_looks_at_itself_and_they_are_compared(server_url: str) -> None:
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "serve_app.cli", "doctor", "--address", address]
    command += ["--model", str(DEMO_CHECKPOINT)]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    here, there, everywhere = said.split("\n\n")
    assert here.startswith("ok       config: ") and "memory" not in here
    assert there.splitlines()[0] == node_of_the_server()
    for check in ("Python", "ray", "decoders", "model"):
        assert f"\nok       {check}: " in there
    assert " memory: " in there and " /dev/shm: " in there
    manifest = read_manifest(DEMO_CHECKPOINT)
    assert manifest is not None
    assert everywhere.splitlines()[0] == ALL_NODES
    assert f"\nok       {MODEL}: {manifest['sha256']} everywhere" in everywhere
    assert f"\nok       ray: {ray.__version__} everywhere" in everywhere


def test_a_node_that_does_not_answer_in_time_is_a_problem_of_its_own(server_url: str) -> None:
    (finding,) = check_nodes(MediaSettings().containers, None, timeout_s=0)
    assert (finding.level, finding.check) == ("problem", "node")
    assert finding.node == node_of_the_server()
    assert "no answer within 0 s" in finding.seen
