"""A server on a cluster of nodes whose replicas are killed: scripts/try_faults.py, for a short time."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "try_faults.py"
SECONDS = 20  # two kills, and a node


@pytest.mark.serve
@pytest.mark.timeout(600)
def test_no_request_is_lost_to_dead_replicas_and_a_lost_node() -> None:
    command = [sys.executable, str(SCRIPT), "kills", "--clients", "8", "--seconds", str(SECONDS)]
    command += ["--gpus-per-node", "1"]  # four engines start in half the time of eight
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    run = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    script = psutil.Process(run.pid)
    try:
        out, err = run.communicate(timeout=570)
    finally:
        with suppress(psutil.NoSuchProcess):  # it ends its cluster itself, unless it hangs
            for each in (*script.children(recursive=True), script):
                each.kill()
    assert run.returncode == 0, out + err
    figures = json.loads(out[out.index("\n{\n") :])
    assert figures["num_kills"] >= 1
    assert figures["num_nodes_removed"] == 1
    assert (figures["num_failed"], figures["num_wrong"]) == (0, 0)
    assert figures["num_answered"] > 50
