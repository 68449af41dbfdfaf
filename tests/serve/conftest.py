"""One Ray Serve instance with the real application, shared by every test of this folder."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from lib.ports import free_port
from serve.clip_host import ADDRESS, ClipHost
from serve.trace_receiver import TraceReceiver, trace_receiver

from serve_app.bundled import DEMO_CHECKPOINT
from serve_app.demo.clips import label_scenes
from serve_app.demo.labels import LABELS
from serve_app.demo.world import write_scenes
from serve_app.serve_config import load_serve_config
from serve_app.server import running_server

LAPTOP = Path(__file__).parents[2] / "configs" / "serve.yaml"
APP_NAME = "emotion-llama"
MAX_IN_FLIGHT = 64
BODY_TIMEOUT_S = 2
NUM_FRESH_CLIPS = 200
FRESH_CLIPS_SEED = 7_300_000
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
def fresh_clips(clips_root: Path) -> list[Path]:
    """Clips that nothing was trained or chosen on."""
    scenes = label_scenes(NUM_FRESH_CLIPS, FRESH_CLIPS_SEED)
    return write_scenes(scenes, clips_root / "fresh")


@pytest.fixture(scope="session")
def second_url() -> str:
    """The server's other port."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="session")
def clip_host(tmp_path_factory: pytest.TempPathFactory) -> ClipHost:
    """The only host the test server may fetch from."""
    return ClipHost.create(tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="session")
def metrics_url() -> str:
    """What Prometheus would scrape."""
    return f"http://127.0.0.1:{free_port()}/metrics"


@pytest.fixture(scope="session")
def traces() -> Iterator[TraceReceiver]:
    """Where the server sends its spans."""
    with trace_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def server_url(
    clips_root: Path,
    second_url: str,
    clip_host: ClipHost,
    metrics_url: str,
    traces: TraceReceiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The laptop's serve.yaml with the demonstration checkpoint, on ports of its own."""
    raw = yaml.safe_load(LAPTOP.read_text())
    raw["http_options"]["port"] = free_port()
    args = raw["applications"][0]["args"]
    args["extra_ports"] = [httpx.URL(second_url).port]
    args["media"]["allowed_roots"] = [str(clips_root)]
    args["media"]["urls"] = {
        "allowed_domains": [f"localhost:{clip_host.port}"],
        "allowed_networks": [f"{ADDRESS}/32"],
        "ca_file": str(clip_host.ca_file),
    }
    args["engine"]["extra_args"] = {"enable_mm_processor_stats": True}
    args["metrics_port"] = httpx.URL(metrics_url).port
    args["traces"] = {"endpoint": traces.url}
    args["limits"]["max_in_flight"] = MAX_IN_FLIGHT
    args["limits"]["body_timeout_s"] = BODY_TIMEOUT_S
    path = tmp_path_factory.mktemp("config") / "serve.yaml"
    path.write_text(yaml.safe_dump(raw))
    config = load_serve_config(path, model=DEMO_CHECKPOINT)
    with running_server(config) as url:
        yield url


@pytest.fixture(scope="session")
def http(server_url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server_url, timeout=60) as client:
        yield client
