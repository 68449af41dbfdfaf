"""What operators see of the real server: metrics in one scrape, one trace of a request, its status."""

import asyncio
import http.client as http_client
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES
from serve.clip_host import ClipHost
from serve.test_http import ENDLESS
from serve.trace_receiver import TraceReceiver

from serve_app.bundled import DEMO_CHECKPOINT
from serve_app.checkpoint import read_manifest
from serve_app.metrics import ENGINE_REQUESTS, METRICS

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
DASHBOARD = Path(__file__).parents[2] / "cluster" / "grafana" / "emotion-llama.json"
ALERTS = DASHBOARD.parents[1] / "prometheus" / "alerts.yaml"
TRACE_ID, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

Sample = tuple[str, dict[str, str], float]


def scrape(url: str) -> list[Sample]:
    return [
        (name, dict(LABEL.findall(labels)), float(value))
        for name, labels, value in SAMPLE.findall(httpx.get(url, timeout=30).text)
    ]


def total(samples: list[Sample], name: str, **labels: str) -> float:
    return sum(
        value
        for seen, having, value in samples
        if seen == name and labels.items() <= having.items()
    )


def ask(http: httpx.Client, clip: Path, **more: Any) -> httpx.Response:
    body = {"video_path": str(clip), "question": "[emotion] What?", "max_tokens": 4, **more}
    return http.post("/process_video", json=body)


def wait_for_total(url: str, more_than: float, name: str, **labels: str) -> list[Sample]:
    """Ray's processes report once a second."""
    deadline = time.monotonic() + 30
    while True:
        samples = scrape(url)
        if total(samples, name, **labels) > more_than:
            return samples
        assert time.monotonic() < deadline, f"{name} {labels} is not above {more_than}"
        time.sleep(0.3)


ANSWERED = {"route": "/process_video", "status": "200", "code": "none", "key": "none"}
MISSING = {"route": "/process_video", "status": "404", "code": "clip_not_found", "key": "none"}
COUNT = "ray_emotion_llama_requests_total"


def test_one_scrape_has_our_metrics_rays_and_vllms(
    http: httpx.Client, metrics_url: str, clip_files: list[Path]
) -> None:
    before = scrape(metrics_url)
    for _ in range(2):
        ask(http, clip_files[5]).raise_for_status()
    ask(http, clip_files[5].with_name("none.mp4"))
    http.get("/nowhere/private.mp4")
    wait_for_total(metrics_url, total(before, COUNT, **ANSWERED) + 1, COUNT, **ANSWERED)
    wait_for_total(metrics_url, total(before, COUNT, **MISSING), COUNT, **MISSING)
    after = wait_for_total(
        metrics_url,
        total(before, "ray_emotion_llama_clips_total", result="hit"),
        "ray_emotion_llama_clips_total",
        result="hit",
    )
    assert total(after, COUNT, route="none", status="404") >= 1
    assert not any("nowhere" in value for _, labels, _ in after for value in labels.values())
    assert total(after, "ray_emotion_llama_clip_failures_total", code="clip_not_found") >= 1
    stages = {
        labels["stage"]
        for name, labels, _ in after
        if name == "ray_emotion_llama_stage_seconds_count"
    }
    assert {"decode", "queue", "first_token", "total"} <= stages
    for kind in ("prompt", "completion", "cached"):
        assert total(after, "ray_emotion_llama_tokens_total", kind=kind) > 0
    assert total(after, "ray_emotion_llama_clip_wait_seconds_count") >= 2
    names = {name for name, _, _ in after}
    assert total(after, "ray_vllm_request_success_total") >= 2
    assert "ray_serve_deployment_processing_latency_ms_count" in names
    exported = {re.sub("_(bucket|sum|count)$", "", name) for name in names} | names
    # This server keeps no answers, and no replica of it died.
    not_asked = {"emotion_llama_answer_cache", "emotion_llama_attempts"}
    missing = {m.exported_name for m in METRICS if m.name not in not_asked} - exported
    assert not missing


async def test_the_batch_of_the_engine_is_seen_while_it_runs(
    server_url: str, metrics_url: str, clip_files: list[Path]
) -> None:
    long = {"video_path": str(clip_files[2]), "question": "?", "temperature": 0}
    long |= ENDLESS
    async with httpx.AsyncClient() as client:
        asking = asyncio.create_task(
            client.post(f"{server_url}/process_video", json=long, timeout=60)
        )
        samples = await asyncio.to_thread(
            wait_for_total, metrics_url, 0, ENGINE_REQUESTS.exported_name, state="running"
        )
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert total(samples, "ray_emotion_llama_kv_cache_usage") > 0


def test_a_body_that_the_proxy_refuses_is_counted(http: httpx.Client, metrics_url: str) -> None:
    refused = {"route": "none", "status": "413", "code": "body_too_large"}
    before = scrape(metrics_url)
    connection = http_client.HTTPConnection(http.base_url.host, http.base_url.port or 80)
    connection.putrequest("POST", "/process_video")
    connection.putheader("Content-Length", str(1 << 30))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    wait_for_total(metrics_url, total(before, COUNT, **refused), COUNT, **refused)


def test_a_request_is_one_trace_with_its_stages_in_order(
    http: httpx.Client, traces: TraceReceiver, clip_files: list[Path]
) -> None:
    sent = f"00-{TRACE_ID}-{CALLER}-01"
    headers = {"traceparent": sent, "X-Request-Id": "traced"}
    body = {"video_path": str(clip_files[6]), "question": "What?", "max_tokens": 8}
    http.post("/process_video", json=body, headers=headers).raise_for_status()
    found = traces.wait_for(TRACE_ID, 9)
    assert len(found) == 9, [span.name for _, span in found]
    deployments = {span.name: deployment for deployment, span in found}
    spans = {span.name: span for _, span in found}
    request, decode, generate = (
        spans[name] for name in ("POST /process_video", "preprocess", "generate")
    )
    assert request.parent_span_id.hex() == CALLER
    assert attribute(request, "emotion_llama.request_id") == "traced"
    assert attribute(generate, "gen_ai.usage.output_tokens") > 0
    assert deployments["POST /process_video"] == "Ingress"
    assert (deployments["preprocess"], deployments["generate"]) == ("Preprocessor", "Generator")
    for above, names in (
        (request, ("preprocess", "generate")),
        (decode, ("wait", "read", "decode")),
        (generate, ("queue", "prefill", "decode tokens")),
    ):
        follow_each_other_inside(above, [spans[name] for name in names])


async def test_a_url_is_read_before_a_worker_is_waited_for(
    server_url: str, traces: TraceReceiver, clip_host: ClipHost, clip_files: list[Path]
) -> None:
    trace_id = "4" * 32
    headers = {"traceparent": f"00-{trace_id}-{CALLER}-01"}
    body = {"video_path": f"{clip_host.url}/a.mp4", "question": "What?", "details": True}
    listening = clip_host.listening(clip_files[3].read_bytes(), answer_after_s=0.3)
    async with listening, httpx.AsyncClient(base_url=server_url, timeout=60) as client:
        answer = await client.post("/process_video", json=body, headers=headers)
    found = await asyncio.to_thread(traces.wait_for, trace_id, 9)
    spans = {span.name: span for _, span in found}
    parts = [spans[name] for name in ("read", "wait", "decode")]
    follow_each_other_inside(spans["preprocess"], parts)
    assert duration_s(spans["read"]) > 0.29
    assert answer.json()["details"]["timings_ms"]["decode"] > 300


def duration_s(span: Span) -> float:
    return float(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9


def follow_each_other_inside(above: Span, parts: list[Span]) -> None:
    times = [above.start_time_unix_nano]
    for part in parts:
        assert part.parent_span_id == above.span_id
        times += [part.start_time_unix_nano, part.end_time_unix_nano]
    times.append(above.end_time_unix_nano)
    assert times == sorted(times), (above.name, times)


def attribute(span: Span, name: str) -> Any:
    values = {each.key: each.value for each in span.attributes}
    return getattr(values[name], values[name].WhichOneof("value"))


def test_the_span_of_what_failed_says_why_and_no_more(
    http: httpx.Client, traces: TraceReceiver, clip_files: list[Path]
) -> None:
    trace_id = "1" * 32
    headers = {"traceparent": f"00-{trace_id}-{CALLER}-01"}
    body = {"video_path": str(clip_files[0].with_name("private.mp4")), "question": "private"}
    assert http.post("/process_video", json=body, headers=headers).status_code == 404
    for _, span in traces.wait_for(trace_id, 2):
        assert span.status.code == Status.STATUS_CODE_ERROR
        assert attribute(span, "error.type") == "clip_not_found"
        assert "private" not in str(span)


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_chat_is_a_trace_too(
    http: httpx.Client, traces: TraceReceiver, clip_files: list[Path], is_stream: bool
) -> None:
    trace_id = ("2" if is_stream else "3") * 32
    part = {"type": "video_url", "video_url": {"url": str(clip_files[1])}}
    content = [part, {"type": "text", "text": "What?"}]
    body = {
        "model": "emotion-llama",
        "messages": [{"role": "user", "content": content}],
        "stream": is_stream,
        "max_tokens": 4,
    }
    headers = {"traceparent": f"00-{trace_id}-{CALLER}-01"}
    http.post("/v1/chat/completions", json=body, headers=headers).raise_for_status()
    names = [span.name for _, span in traces.wait_for(trace_id, 9)]
    assert {"POST /v1/chat/completions", "read", "decode tokens"} <= set(names)


def test_the_status_says_what_runs(http: httpx.Client) -> None:
    status = http.get("/v1/status").json()
    assert status["status"] == "ready"
    assert status["deployments"].keys() == {"Ingress", "Preprocessor", "Generator"}
    for deployment in status["deployments"].values():
        assert deployment == {"status": "HEALTHY", "replicas": {"RUNNING": 1}}
    manifest = read_manifest(DEMO_CHECKPOINT)
    assert manifest is not None
    assert status["model"]["sha256"] == manifest["sha256"]
    assert status["versions"]["ray"] == "2.60.0"
    assert status["requests"]["in_flight"] == 0


def test_dashboard_and_alerts_name_only_metrics_that_are_exported(
    http: httpx.Client, metrics_url: str, clip_files: list[Path]
) -> None:
    ask(http, clip_files[7]).raise_for_status()
    wait_for_total(metrics_url, 0, "ray_vllm_inter_token_latency_seconds_count")
    exported = {name for name, _, _ in scrape(metrics_url)}
    exported |= {f"ray_{name}" for name in METRICS_GAUGES}  # of nodes; some only with a GPU
    exported.add("ray_emotion_llama_answer_cache_total")  # this server keeps no answers
    exported.add("ray_emotion_llama_clip_failures_total")  # so far perhaps no clip failed
    exported.add("ray_emotion_llama_attempts_total")  # so far no replica died
    texts = [path.read_text() for path in (DASHBOARD, ALERTS, ALERTS.with_name("alerts_test.yaml"))]
    named = {name for text in texts for name in re.findall(r"\bray_\w+", text)}
    named.remove("ray_io_cluster")  # a label
    assert len(named) > 20
    assert named <= exported, named - exported
