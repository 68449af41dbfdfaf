"""Kills, removes and replaces parts of a server under load, on a cluster of several nodes on this machine.

    python scripts/try_faults.py kills      a Generator is killed every 10 s, and one node is removed
    python scripts/try_faults.py hang       an engine stops answering and does not end
    python scripts/try_faults.py rollout    a new configuration is deployed
    python scripts/try_faults.py scale      from one Generator to four and back, by load
    python scripts/try_faults.py zero       scales to zero Generators without requests; then many come at once
    python scripts/try_faults.py ingress    an ingress replica is killed; clients retry
    python scripts/try_faults.py hosts      hosts are drained, die, are cut off, and come back (needs root)
    python scripts/try_faults.py affinity   200 clips on four engines: how many questions find their clip

Prints figures as JSON. The exit status is 1 if a request failed, an answer differed from the one without
faults, or something else that the scenario promises was broken.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "scenario",
        choices=("kills", "hang", "rollout", "scale", "zero", "ingress", "hosts", "affinity"),
    )
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--gpus-per-node", type=int, help="of the four nodes of kills; default 2")
    args = parser.parse_args()
    if args.gpus_per_node and args.scenario != "kills":
        parser.error("--gpus-per-node is for kills")
    options = {"gpus_per_node": args.gpus_per_node} if args.gpus_per_node else {}
    with tempfile.TemporaryDirectory(prefix="el-") as folder:
        # A short folder, because socket paths have at most 107 characters. Set before anything imports Ray.
        os.environ["RAY_TMPDIR"] = os.environ["TMPDIR"] = tempfile.tempdir = folder
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        from faults.scenarios import SCENARIOS

        data = Path(folder, "data")
        data.mkdir()
        scenario = SCENARIOS[args.scenario](data, args.clients, args.seconds, **options)
        figures = asyncio.run(scenario)
    print(json.dumps(figures, indent=1))
    return int(figures["num_failed"] > 0 or figures["num_wrong"] > 0 or bool(figures.get("broken")))


if __name__ == "__main__":
    sys.exit(main())
