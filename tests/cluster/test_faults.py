"""A server on a cluster of nodes whose replicas are killed: scripts/try_faults.py, for a short time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "try_faults.py"
SECONDS = 20  # two kills, and a node


@pytest.mark.serve
def test_no_request_is_lost_to_dead_replicas_and_a_lost_node(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "kills", "--clients", "8", "--seconds", str(SECONDS)]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(run.stdout[run.stdout.index("\n{\n") :])
    assert (figures["num_kills"], figures["num_nodes_removed"]) == (2, 1)
    assert (figures["num_failed"], figures["num_wrong"]) == (0, 0)
    assert figures["num_answered"] > 50
