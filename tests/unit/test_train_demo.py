"""The training script in a few steps: a whole checkpoint, and the same bytes from the same seed."""

import subprocess
import sys
from pathlib import Path

from serve_app.check import open_checkpoint
from serve_app.checkpoint import hash_files

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_demo.py"


def train(out: Path) -> Path:
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(out), "--quick"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return out


def test_a_seed_gives_the_same_files_wherever_they_are_made(tmp_path: Path) -> None:
    first, again = train(tmp_path / "first"), train(tmp_path / "again")
    assert open_checkpoint(first).image_size == 112
    assert hash_files(first) == hash_files(again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "first"]
