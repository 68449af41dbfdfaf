"""Writes the image's list of packages from pip's report: scripts/write_requirements.py cpu|gpu REPORT.

    python -m pip install --dry-run --ignore-installed --report gpu.json '.[gpu,batch]'
    python -m pip install --dry-run --ignore-installed --report cpu.json 'torch==2.13.0+cpu' '.[cpu,batch]'

The first command downloads some gigabytes, including CUDA's libraries, and keeps nothing.
"""

import json
import sys
from pathlib import Path

OURS = "emotion-llama-serve"
# torch+cpu is installed before the list, from its own index. On a machine without CUDA the CUDA builds of the
# others break vLLM's imports, and nothing in this project imports them (scripts/setup.sh).
LEFT_OUT = {"gpu": {OURS}, "cpu": {OURS, "torch", "torchaudio", "torchcodec", "torchvision"}}


def requirements(report: dict[str, object], extra: str) -> list[str]:
    """`name==version` of everything that pip would install, in order."""
    packages = [entry["metadata"] for entry in report["install"]]  # type: ignore[attr-defined]
    named = {package["name"].lower().replace("_", "-"): package["version"] for package in packages}
    return [f"{name}=={named[name]}" for name in sorted(named.keys() - LEFT_OUT[extra])]


if __name__ == "__main__":
    extra, report = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    path = Path(__file__).parents[1] / "cluster" / f"requirements.{extra}.txt"
    head = (
        f"# Every package of the {extra} image: scripts/write_requirements.py. Not edited by hand."
    )
    path.write_text("\n".join([head, *requirements(report, extra)]) + "\n")
