"""Fixtures every folder may use. Nothing here starts an engine or a cluster."""

import os
import shutil
import tempfile
from multiprocessing.util import Finalize
from pathlib import Path

import pytest

# Before anything imports Ray: its token would be written into the home folder.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Short periods, so that tests need not wait for Ray's metrics and for spans.
os.environ["RAY_metrics_report_interval_ms"] = "1000"  # noqa: SIM112 Ray spells it so
os.environ["OTEL_BSP_SCHEDULE_DELAY"] = "200"
# A handle's background task would start a second Ray after the first one's shutdown.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
# Ray's sessions, vLLM's sockets and every clip of this run go here, and are gone afterwards.
# Short, because the paths of Ray's sockets may have 107 characters at most.
RUN_FOLDER = os.environ["TMPDIR"] = os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="el-")
tempfile.tempdir = RUN_FOLDER


# After multiprocessing's own finalizers, which remove their part of it themselves.
Finalize(None, shutil.rmtree, (RUN_FOLDER,), {"ignore_errors": True}, exitpriority=-1000)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of the real architecture, made once per run."""
    from make_tiny_checkpoint import write_tiny_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    write_tiny_checkpoint(folder)
    return folder


@pytest.fixture(scope="session")
def clip_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight mp4 files with different faces, voices and lengths."""
    from lib.plain_clips import face_frames, voice

    from serve_app.demo.movie import write_clip

    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / f"{seed}.mp4" for seed in range(8)]
    for seed, path in enumerate(paths):
        seconds = 1.0 + 0.25 * seed
        write_clip(path, face_frames(seed, seconds), [voice(seed, seconds)])
    return paths
