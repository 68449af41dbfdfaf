"""`make demo-report`: runs the demonstration checkpoint's whole report and compares it with its model card.

Starts the laptop's server, sends it every clip as an mp4, and prints the rows. Fails if a limit is missed or
a score differs from the card's. With --write-card it writes a new card instead.
"""

import argparse
import json
import sys
from pathlib import Path

from demo.card import read_scores, write_card
from lib.ports import free_port

from serve_app.bundled import DEMO_CHECKPOINT
from serve_app.checkpoint import read_manifest
from serve_app.cli import main as emotion_llama
from serve_app.serve_config import load_serve_config
from serve_app.server import running_server

CONFIG = Path("configs/serve.yaml")
CARD = DEMO_CHECKPOINT / "README.md"
# Accepted because processors round differently: three of 300 answers, and the card's own rounding.
DIFFERENCE = 0.0106


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--write-card", action="store_true")
    args = parser.parse_args()
    with running_server(load_serve_config(CONFIG, model=DEMO_CHECKPOINT, port=free_port())) as url:
        options = ["--url", url, "--restart", "--out", str(args.out)]
        status = emotion_llama(["evaluate", "demo", *options])
    report = json.loads(args.out.read_text())
    if args.write_card:
        manifest = read_manifest(DEMO_CHECKPOINT) or {}
        CARD.write_text(write_card(report, manifest["seed"]))
    differing = compare_with_card(report)
    print("\n".join(differing) or "every score is that of the model card")
    return status or bool(differing)


def compare_with_card(report: dict[str, list[dict[str, float]]]) -> list[str]:
    """Scores that differ from the card's."""
    measured = {str(test["test"]): test["score"] for test in report["tests"]}
    card = read_scores(CARD.read_text())
    missing = [f"not on both: {name}" for name in measured.keys() ^ card.keys()]
    return missing + [
        f"{name}: {score:.3f}, on the card {card[name]:.3f}"
        for name, score in measured.items()
        if name in card and abs(score - card[name]) > DIFFERENCE
    ]


if __name__ == "__main__":
    sys.exit(main())
