"""One Ray Serve instance with the real application, shared by every test of this folder."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from ports import free_port

from serve_app.bundled import DEMO_CHECKPOINT
from serve_app.demo.clips import label_scenes
from serve_app.demo.labels import LABELS
from serve_app.demo.world import write_scenes
from serve_app.serve_config import load_serve_config
from serve_app.server import running_server

LAPTOP = Path(__file__).parents[2] / "configs" / "serve.yaml"
APP_NAME = "emotion-llama"
MAX_IN_FLIGHT = 40
BODY_TIMEOUT_S = 2
LABEL_CLIPS_SEED = 5_000_100  # of clips that it gets right: it does not all (its card)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.serve)


@pytest.fixture(scope="session")
def clips_root(clip_files: list[Path]) -> Path:
    """The only folder the test server may open."""
    return clip_files[0].parent


@pytest.fixture(scope="session")
def label_clips(clips_root: Path) -> dict[str, Path]:
    """A clip of the demonstration's generator for each of its labels."""
    scenes = label_scenes(len(LABELS), LABEL_CLIPS_SEED)
    return dict(zip(LABELS, write_scenes(scenes, clips_root / "labels"), strict=True))


@pytest.fixture(scope="session")
def server_url(clips_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The laptop's serve.yaml with the demonstration checkpoint, on a port of its own."""
    raw = yaml.safe_load(LAPTOP.read_text())
    args = raw["applications"][0]["args"]
    args["media"]["allowed_roots"] = [str(clips_root)]
    args["engine"]["extra_args"] = {"enable_mm_processor_stats": True}
    args["limits"]["max_in_flight"] = MAX_IN_FLIGHT
    args["limits"]["body_timeout_s"] = BODY_TIMEOUT_S
    path = tmp_path_factory.mktemp("config") / "serve.yaml"
    path.write_text(yaml.safe_dump(raw))
    config = load_serve_config(path, model=DEMO_CHECKPOINT, port=free_port())
    with running_server(config) as url:
        yield url


@pytest.fixture(scope="session")
def http(server_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server_url, timeout=60) as client:
        yield client
