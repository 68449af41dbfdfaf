"""emotion-llama doctor on the nodes of a real cluster: the one that serves the other tests."""

import json
import subprocess
import sys
from typing import Any

import ray

from serve_app.bundled import DEMO_CHECKPOINT
from serve_app.checkpoint import read_manifest
from serve_app.doctor.cluster import ALL_NODES, MODEL, check_nodes
from serve_app.settings import MediaSettings


def doctor(*arguments: str) -> str:
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "serve_app.cli", "doctor", "--address", address, *arguments]
    return subprocess.run(command, capture_output=True, text=True).stdout


def node_of_the_server() -> str:
    (node,) = ray.nodes()
    return f"{node['NodeManagerHostname']} {node['NodeManagerAddress']}"


def test_every_node_looks_at_itself_and_they_are_compared(server_url: str) -> None:
    found: list[dict[str, Any]] = json.loads(doctor("--json", "--model", str(DEMO_CHECKPOINT)))
    by_node: dict[str, dict[str, Any]] = {each["node"]: {} for each in found}
    for each in found:
        by_node[each["node"]][each["check"]] = each
    this_process, node, all_nodes = by_node
    assert (this_process, all_nodes) == ("", ALL_NODES)
    assert node.startswith(node_of_the_server())
    assert list(by_node[""]) == ["config"]
    assert {"Python", "ray", "memory", "/dev/shm", "decoders", "model"} <= by_node[node].keys()
    assert "complete" in by_node[node]["model"]["seen"]
    manifest = read_manifest(DEMO_CHECKPOINT)
    assert manifest is not None
    assert by_node[ALL_NODES][MODEL]["seen"] == f"{manifest['sha256']} everywhere"
    assert by_node[ALL_NODES]["ray"]["seen"] == f"{ray.__version__} everywhere"


def test_for_people_a_nodes_lines_are_below_its_name(server_url: str) -> None:
    said = doctor("--model", "/nowhere")
    assert f"\n\n{node_of_the_server()} (" in said
    assert "problem  model: /nowhere/config.json does not exist" in said
    assert f"\n\n{ALL_NODES}\nok       Python: " in said


def test_a_node_that_does_not_answer_in_time_is_a_problem_of_its_own(server_url: str) -> None:
    (finding,) = check_nodes(MediaSettings().containers, None, timeout_s=0)
    assert (finding.level, finding.check) == ("problem", "node")
    assert finding.node.startswith(node_of_the_server())
    assert "no answer within 0 s" in finding.seen
