"""No engine process outlives the process that holds its Engine: an orphan would keep the GPU's memory."""

import subprocess
import sys
from pathlib import Path

import psutil
from processes import is_engine

HOLD_AN_ENGINE = """
import asyncio, sys
from pathlib import Path
from serve_app.check import open_checkpoint
from serve_app.engine.engine import Engine
from serve_app.settings import EngineSettings

async def main():
    engine = Engine(open_checkpoint(Path(sys.argv[1])), EngineSettings(dtype="float32"))
    print("UP", flush=True)
    await asyncio.sleep(600)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_killed_owner_takes_its_engine_along(tiny_checkpoint: Path, tmp_path: Path) -> None:
    script = tmp_path / "hold_an_engine.py"
    script.write_text(HOLD_AN_ENGINE)
    owner = subprocess.Popen(
        [sys.executable, script, tiny_checkpoint],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert owner.stdout is not None
    assert any("UP" in line for line in iter(owner.stdout.readline, "")), "it never came up"
    children = psutil.Process(owner.pid).children(recursive=True)
    assert any(map(is_engine, children))
    owner.kill()
    owner.wait()
    _, alive = psutil.wait_procs(children, timeout=10)
    for process in alive:
        process.kill()
    assert not alive
