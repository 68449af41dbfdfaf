"""Fixtures every folder may use. Nothing here starts an engine or a cluster."""

import os
from pathlib import Path

import pytest

# Before anything imports Ray: its token would be written into the home folder.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of the real architecture, made once per run."""
    from make_tiny_checkpoint import write_tiny_checkpoint

    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    write_tiny_checkpoint(folder)
    return folder
