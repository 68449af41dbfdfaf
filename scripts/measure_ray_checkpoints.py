"""Measures what Ray Data's own checkpoints save of a job whose driver is killed, and what a rerun costs.

The job writes 2,000 rows of 10 ms on one actor to Parquet, with blocks of the default size and of one row.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lib.measuring import without_ray_token
from pyarrow import parquet

NUM_ROWS = 2000
KILLED_AFTER_S = 20.0


class Slow:
    """Takes 10 ms for each row."""

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.01)
        return {"id": row["id"], "text": "x" * 2000}


def job(folder: Path, block_bytes: int | None) -> None:
    import ray
    from ray.data.checkpoint import CheckpointConfig

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.checkpoint_config = CheckpointConfig(
        id_column="id",
        checkpoint_path=str(folder / "state"),
        delete_checkpoint_on_success=False,
    )
    if block_bytes is not None:
        context.target_max_block_size = block_bytes
    compute = ray.data.ActorPoolStrategy(size=1)
    ray.data.range(NUM_ROWS).map(Slow, compute=compute).write_parquet(str(folder / "out"))


def num_saved(folder: Path) -> tuple[int, int]:
    """The number of rows and of files that were written."""
    files = list((folder / "out").rglob("*.parquet"))
    return sum(parquet.ParquetFile(file).metadata.num_rows for file in files), len(files)


def measure(block_bytes: int | None) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        command = [sys.executable, __file__, "--folder", name]
        command += [] if block_bytes is None else ["--block-bytes", str(block_bytes)]
        print("blocks of the default size" if block_bytes is None else "a block for each row")
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            time.sleep(KILLED_AFTER_S)
            process.kill()
        print(
            f"  killed after {KILLED_AFTER_S:.0f} s: {num_saved(folder)[0]} rows saved", flush=True
        )
        for what in ("run again", "run again when it is finished"):
            started = time.monotonic()
            subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
            elapsed_s = time.monotonic() - started
            num_rows, num_files = num_saved(folder)
            print(f"  {what}: {elapsed_s:.0f} s, {num_rows} rows in {num_files} files", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--block-bytes", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    without_ray_token()
    if args.folder is not None:
        job(args.folder, args.block_bytes)
        return 0
    measure(None)
    measure(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
