"""Kills, takes away and replaces parts of a server under load, on a cluster of several nodes on this machine.

    python scripts/try_faults.py kills      a Generator is killed every 10 s, and a node goes
    python scripts/try_faults.py hang       an engine stops answering and does not end
    python scripts/try_faults.py rollout    a new configuration is deployed
    python scripts/try_faults.py scale      from one Generator to four and back, by load
    python scripts/try_faults.py zero       the last Generator goes when nobody asks; then all ask at once
    python scripts/try_faults.py ingress    an ingress replica is killed; clients try again
    python scripts/try_faults.py hosts      hosts are drained, die, are cut off, and come back (needs root)
    python scripts/try_faults.py affinity   200 clips on four engines: how many questions meet their clip

Prints figures as JSON; exit status 1 where a request failed, an answer was not the undisturbed one, or
something else that the scenario promises was broken.
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
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="el-") as folder:
        # Ray's sockets have 107 characters at most: a short folder. Before anything imports Ray.
        os.environ["RAY_TMPDIR"] = os.environ["TMPDIR"] = tempfile.tempdir = folder
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        from faults.scenarios import SCENARIOS

        data = Path(folder, "data")
        data.mkdir()
        figures = asyncio.run(SCENARIOS[args.scenario](data, args.clients, args.seconds))
    print(json.dumps(figures, indent=1))
    return int(figures["num_failed"] > 0 or figures["num_wrong"] > 0 or bool(figures.get("broken")))


if __name__ == "__main__":
    sys.exit(main())
