"""One real engine over the tiny checkpoint, shared by every test of this folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from serve_app.check import open_checkpoint
from serve_app.engine.engine import Engine
from serve_app.media.decode import decode_clip
from serve_app.settings import EngineSettings, MediaSettings
from serve_app.types import Clip, DecodeOptions


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engine)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(tiny_checkpoint: Path) -> AsyncIterator[Engine]:
    # The encoder figures that the cache test reads are off by default.
    settings = EngineSettings(
        dtype="float32",
        max_model_len=1024,
        max_num_seqs=32,
        extra_args={"enable_mm_processor_stats": True},
    )
    engine = Engine(open_checkpoint(tiny_checkpoint), settings)
    yield engine
    engine.shutdown()


@pytest.fixture(scope="session")
def decoded_clips(clip_files: list[Path]) -> list[Clip]:
    """Eight different clips, decoded from real mp4 files."""
    return [
        decode_clip(path.read_bytes(), DecodeOptions(), MediaSettings(), image_size=448)
        for path in clip_files
    ]
