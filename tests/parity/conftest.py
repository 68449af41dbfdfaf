"""Toy downloads, the original over them, and a real engine over what they convert to."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from parity.downloads import Downloads, write_downloads
from parity.original import Original

from serve_app.check import open_checkpoint
from serve_app.convert.convert import Options, convert
from serve_app.convert.downloads import Paths
from serve_app.engine.engine import Engine
from serve_app.media.decode import decode_clip
from serve_app.settings import EngineSettings, MediaSettings
from serve_app.types import Clip, DecodeOptions


@pytest.fixture(scope="session")
def toy_downloads(tmp_path_factory: pytest.TempPathFactory) -> Downloads:
    return write_downloads(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def converted(toy_downloads: Downloads, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _convert(toy_downloads, tmp_path_factory.mktemp("converted") / "merged", keep_lora=False)


@pytest.fixture(scope="session")
def converted_with_adapter(
    toy_downloads: Downloads, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return _convert(toy_downloads, tmp_path_factory.mktemp("converted") / "adapter", keep_lora=True)


def _convert(downloads: Downloads, out: Path, keep_lora: bool) -> Path:
    paths = Paths(downloads.llama, downloads.eva, downloads.hubert, downloads.emotion_llama)
    report = convert(paths, out, Options(dtype="fp32", keep_lora=keep_lora))
    assert report.problems == []
    return out


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def merged_engine(converted: Path) -> AsyncIterator[Engine]:
    engine = Engine(open_checkpoint(converted), EngineSettings(max_model_len=1024))
    yield engine
    engine.shutdown()


@pytest.fixture(scope="session")
def originals(toy_downloads: Downloads) -> dict[str, Original]:
    """By tokenization."""
    return {
        "4.30": Original(toy_downloads, "4.30.0"),
        "4.35": Original(toy_downloads, "4.35.0"),
    }


@pytest.fixture(scope="session")
def reference_clips(clip_files: list[Path]) -> list[Clip]:
    """Two clips with the original's samples of their sound."""
    options = DecodeOptions(audio_mode="reference")
    return [
        decode_clip(path.read_bytes(), options, MediaSettings(), image_size=448)
        for path in clip_files[:2]
    ]
