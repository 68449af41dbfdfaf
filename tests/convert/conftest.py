"""The downloads that every test of this folder converts, and what converting them gives."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from parity.downloads import Downloads, write_downloads

from serve_app.convert.convert import Options, Report, convert
from serve_app.convert.downloads import Paths

FLOAT32 = Options(dtype="fp32")


def paths_of(downloads: Downloads) -> Paths:
    return Paths(downloads.llama, downloads.eva, downloads.hubert, downloads.emotion_llama)


@pytest.fixture(scope="session")
def whole_downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("downloads")
    write_downloads(folder)
    return folder


@pytest.fixture
def downloads(whole_downloads: Path, tmp_path: Path) -> Downloads:
    """A copy that a test may damage."""
    folder = tmp_path / "downloads"
    shutil.copytree(whole_downloads, folder)
    return Downloads.in_folder(folder)


@pytest.fixture
def convert_to(tmp_path: Path) -> Callable[..., Report]:
    def run(downloads: Downloads, name: str = "out", options: Options = FLOAT32) -> Report:
        return convert(paths_of(downloads), tmp_path / name, options)

    return run
