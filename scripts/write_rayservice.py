"""Writes configs/serve.multi-gpu.yaml into cluster/rayservice.yaml: scripts/write_rayservice.py.

`serveConfigV2: |` is the last key of that file, so everything after it is replaced.
"""

import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "serve.multi-gpu.yaml"
RAYSERVICE = ROOT / "cluster" / "rayservice.yaml"
LAST_KEY = "  serveConfigV2: |\n"


def with_config(rayservice: str, config: str) -> str:
    """The manifest's text with the config inserted."""
    before, key, _ = rayservice.partition(LAST_KEY)
    assert key, f"{RAYSERVICE} has no line {LAST_KEY.strip()!r}"
    return before + key + textwrap.indent(config, " " * 4)


if __name__ == "__main__":
    RAYSERVICE.write_text(with_config(RAYSERVICE.read_text(), CONFIG.read_text()))
