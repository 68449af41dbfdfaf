"""What a request's log line adds to the metrics; traces that are off or wrongly configured."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from unit.test_access import KEY, entry
from unit.test_api import QUESTION, FakeService

from serve_app.api.app import create_api
from serve_app.api.observers import Observers
from serve_app.deployments import engine_gauges
from serve_app.deployments.watched_decode import WatchedDecode
from serve_app.errors import ClipNotFoundError, ConfigurationError, DecodeTimeoutError
from serve_app.in_flight import InFlight
from serve_app.media.pool import DecodePool
from serve_app.metrics import (
    ANSWER_CACHE,
    CLIP_FAILURES,
    CLIP_WAIT_SECONDS,
    CLIPS,
    ENGINE_REQUESTS,
    IN_FLIGHT,
    KV_CACHE_USAGE,
    METRICS,
    REQUEST_SECONDS,
    REQUESTS,
    STAGE_SECONDS,
    TOKEN_COUNT,
    Metric,
)
from serve_app.settings import AccessSettings, AppSettings, MediaSettings, TraceSettings
from serve_app.trace_start import open_traces
from serve_app.traces import NoTraces
from serve_app.types import ClipSource, DecodeOptions, EngineLoad


@dataclass
class ListMeter:
    """Keeps the recorded values, and checks that all labels of a metric are given."""

    records: list[tuple[Metric, float, dict[str, str]]] = field(default_factory=list)

    def record(self, metric: Metric, value: float, **labels: str) -> None:
        assert set(labels) == set(metric.labels), metric.name
        self.records.append((metric, value, labels))

    def of(self, metric: Metric) -> list[tuple[float, dict[str, str]]]:
        return [(value, labels) for seen, value, labels in self.records if seen is metric]


@pytest.fixture
def meter() -> ListMeter:
    return ListMeter()


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(service: FakeService, meter: ListMeter, tmp_path: Path) -> Iterator[TestClient]:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": [entry("alice", KEY)]}))
    settings = AppSettings(model=Path("/m"), access=AccessSettings(keys_file=keys))
    api = create_api(service, settings, observers=Observers(meter))
    with TestClient(api, headers={"X-API-Key": KEY}) as client:
        yield client


def test_an_answer_is_counted_with_its_tokens_and_times(
    client: TestClient, service: FakeService, meter: ListMeter
) -> None:
    service.cache = "hit"
    client.post("/process_video", json=QUESTION)
    labels = {"route": "/process_video", "status": "200", "code": "none", "key": "alice"}
    assert meter.of(REQUESTS) == [(1, labels)]
    assert meter.of(STAGE_SECONDS) == [(0.001, {"stage": "total"})]
    assert meter.of(TOKEN_COUNT) == [
        (2, {"kind": "prompt", "key": "alice"}),
        (1, {"kind": "completion", "key": "alice"}),
    ]
    assert meter.of(ANSWER_CACHE) == [(1, {"result": "hit"})]
    ((seconds, route),) = meter.of(REQUEST_SECONDS)
    assert (0 < seconds < 10, route) == (True, {"route": "/process_video"})


def test_no_label_is_what_a_stranger_chooses(client: TestClient, meter: ListMeter) -> None:
    client.get("/private/place")
    client.post("/process_video", json=QUESTION, headers={"X-API-Key": "private"})
    assert [labels["route"] for _, labels in meter.of(REQUESTS)] == ["none", "none"]
    assert "private" not in str(meter.of(REQUESTS))


async def test_those_inside_are_counted_and_the_oldest_has_an_age() -> None:
    inside = InFlight()
    assert (inside.num_requests, inside.oldest_s) == (0, 0.0)
    with inside.request():
        await asyncio.sleep(0.02)
        with inside.request():
            assert inside.num_requests == 2
            assert inside.oldest_s >= 0.02
    assert (inside.num_requests, inside.oldest_s) == (0, 0.0)


def test_the_gauge_is_set_without_any_request(client: TestClient, meter: ListMeter) -> None:
    client.get("/healthz")
    assert (0, {}) in meter.of(IN_FLIGHT)


def test_names_follow_prometheus() -> None:
    names = [metric.exported_name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert metric.exported_name.startswith("ray_emotion_llama_")
        assert metric.name.endswith("_seconds") == (
            metric.kind == "histogram" or "oldest" in metric.name
        )


async def test_clips_are_counted_as_decoded_held_and_failed(
    clip_files: list[Path], meter: ListMeter
) -> None:
    media = MediaSettings(allowed_roots=(clip_files[0].parent,), num_decode_workers=1, voice=False)
    pool = DecodePool(media, image_size=448)
    watched = WatchedDecode(pool, meter, NoTraces())
    try:
        for _ in range(2):
            await watched.decode(ClipSource(path=str(clip_files[0])), DecodeOptions(), None)
        with pytest.raises(ClipNotFoundError):
            missing = ClipSource(path=str(clip_files[0].with_name("none.mp4")))
            await watched.decode(missing, DecodeOptions(), None)
    finally:
        await asyncio.to_thread(pool.close)
    assert meter.of(CLIPS) == [(1, {"result": "decoded"}), (1, {"result": "hit"})]
    assert meter.of(CLIP_FAILURES) == [(1, {"code": "clip_not_found"})]
    waits = [value for value, _ in meter.of(CLIP_WAIT_SECONDS)]
    assert len(waits) == 2
    assert waits[1] < waits[0], "the first one waited for the worker to start"


async def test_a_clip_whose_voice_fails_has_failed_alone(
    clip_files: list[Path], meter: ListMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = MediaSettings(allowed_roots=(clip_files[0].parent,), num_decode_workers=1, voice=False)
    pool = DecodePool(media, image_size=448)
    monkeypatch.setattr(pool, "_voice", TooSlow())
    watched = WatchedDecode(pool, meter, NoTraces())
    source = ClipSource(path=str(clip_files[0]))
    try:
        with pytest.raises(DecodeTimeoutError):
            await watched.decode(source, DecodeOptions(voice=True), None)
        await watched.decode(source, DecodeOptions(), None)
    finally:
        monkeypatch.undo()
        await asyncio.to_thread(pool.close)
    assert meter.of(CLIP_FAILURES) == [(1, {"code": DecodeTimeoutError.code})]
    assert meter.of(CLIPS) == [(1, {"result": "decoded"})]


class TooSlow:
    """Replaces the lane for voice statistics, which takes seconds to start."""

    async def run(self, *_: Any) -> Any:
        raise DecodeTimeoutError("measuring the voice was stopped")


def test_traces_that_are_off_import_nothing() -> None:
    code = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
from unit.test_api import QUESTION, FakeService
from serve_app.api.app import create_api
from serve_app.api.observers import Observers
from serve_app.settings import AppSettings, TraceSettings
from serve_app.trace_start import open_traces
service = FakeService()
observers = Observers(traces=open_traces(TraceSettings(), "Ingress"))
client = TestClient(create_api(service, AppSettings(model=Path("/m")), observers=observers))
headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
assert client.post("/process_video", json=QUESTION, headers=headers).status_code == 200
assert service.asked[0].traceparent is None
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    root = Path(__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{root}:{root / 'tests'}"},
        capture_output=True,
        text=True,
    )
    assert said.stdout == "[]\n", said.stderr


def test_a_protocol_that_is_not_spoken_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ConfigurationError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL is grpc"):
        open_traces(TraceSettings(), "Ingress")


def test_a_node_without_the_exporter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "serve_app.otlp", raising=False)
    monkeypatch.setitem(sys.modules, OTLP, None)
    with pytest.raises(ConfigurationError, match="the extra `traces`"):
        open_traces(TraceSettings(endpoint="http://127.0.0.1:9"), "Ingress")


OTLP = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
STRANGE: list[Any] = ["", "00-zz", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "x" * 5000]


@pytest.mark.parametrize("sent", STRANGE, ids=["empty", "cut", "zeros", "long"])
def test_a_traceparent_that_is_none_starts_a_trace(
    monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")  # nothing listens there
    traces = open_traces(TraceSettings(), "Ingress")
    with traces.span("POST", sent, begins=True) as span:
        assert span.traceparent is not None
        assert int(span.traceparent[-2:], 16) & 1 == 0, "the sampler said no"
        assert "zz" not in span.traceparent
    traces.close()


def test_a_stage_begins_no_trace_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm-up does not belong to a client's request."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    traces = open_traces(TraceSettings(), "Preprocessor")
    with traces.span("preprocess", None) as span:
        assert span.traceparent is None
    traces.close()


async def test_the_engines_load_is_reported_again_after_a_failure(
    meter: ListMeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_gauges, "PERIOD_S", 0.01)
    loads = iter([EngineLoad(1, 0, 0.5, 64), None, EngineLoad(3, 2, 0.75, 64)])
    reporting = asyncio.create_task(engine_gauges.report_engine(lambda: next(loads), meter))  # type: ignore[arg-type, return-value]
    async with asyncio.timeout(5):
        while len(meter.of(KV_CACHE_USAGE)) < 2:
            await asyncio.sleep(0.01)
    reporting.cancel()
    assert meter.of(ENGINE_REQUESTS)[2:] == [(3, {"state": "running"}), (2, {"state": "waiting"})]
    assert meter.of(KV_CACHE_USAGE) == [(0.5, {}), (0.75, {})]
