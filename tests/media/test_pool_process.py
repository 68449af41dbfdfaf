"""The process that owns a pool: its limits are kept, and its workers end with it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from serve_app.media.pool import DecodePool
from serve_app.settings import MediaSettings
from serve_app.types import ClipSource, DecodeOptions

async def main() -> None:
    pool = DecodePool(MediaSettings(voice=False, worker_memory_bytes=1 << 40), image_size=224)
    source = ClipSource(data=Path(sys.argv[1]).read_bytes())
    assert (await pool.decode(source, DecodeOptions())).frame is not None
    pool.close()

for limit, hard in ((resource.RLIMIT_AS, 8 << 30), (resource.RLIMIT_CPU, 6)):
    resource.setrlimit(limit, (hard, hard))
asyncio.run(main())
"""


def test_limits_the_server_was_started_under_are_kept(clip_files: list[Path]) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", LIMITED, str(clip_files[0])]
    subprocess.run(command, check=True, env=environment)


SERVER = """
import asyncio, sys
from media import hooks
from media.clips import plain_frames
from serve_app.media.pool import DecodePool
from serve_app.settings import MediaSettings

async def main() -> None:
    pool = DecodePool(MediaSettings(num_decode_workers=2, voice=False), image_size=224)
    print(*{await pool._decoders.run("", 5.0, hooks.sleep, 0.0) for _ in range(4)}, flush=True)
    await pool._decoders.run("", 60.0, getattr(hooks, sys.argv[1]), 60.0)

raise SystemExit(asyncio.run(main()))  # on import, too: a worker must not import its `__main__`
"""


@pytest.mark.parametrize("task", ["sleep", "spin"])
def test_workers_end_when_the_server_is_killed(tmp_path: Path, task: str) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), task]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in server.stdout.readline().split()]
        family = [*psutil.Process(server.pid).children(recursive=True)]
        time.sleep(0.3)  # one of them is in the middle of its task
        server.kill()
        server.stdout.close()
    _, alive = psutil.wait_procs({*workers, *family}, timeout=5)
    assert len(workers) == 2 and not alive, alive
