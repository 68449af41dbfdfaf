"""Real requests to the real application: HTTP -> Ingress -> Preprocessor -> Generator (vLLM)."""

import asyncio
import os
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from processes import is_engine
from ray import serve
from ray.serve.handle import DeploymentHandle
from serve.conftest import APP_NAME, BODY_TIMEOUT_S, MAX_IN_FLIGHT

from serve_app.cli import main
from serve_app.demo.labels import FACE_OF, FACES, LABELS, VOICE_OF, VOICES
from serve_app.errors import DeadlineExceededError

QUESTION = "[emotion] What is the emotion expressed in this video?"
REASON = "[reason] Why does the person feel this way?"
# Rewards what was said before, so that the answer goes on to max_tokens.
ENDLESS = {"repetition_penalty": 0.01, "max_tokens": 1500}


def body(clip: Path, question: str = QUESTION, **fields: Any) -> dict[str, Any]:
    greedy = {"temperature": 0, "max_tokens": 100}
    return {"video_path": str(clip), "question": question} | greedy | fields


def fresh_copy(clip: Path, number: int) -> Path:
    """The same clip in a file nobody has asked about: other bytes, in a box that players skip."""
    copy = clip.with_name(f"{clip.stem}-{number}.mp4")
    copy.write_bytes(clip.read_bytes() + struct.pack(">I4sQ", 16, b"free", number))
    return copy


async def post_all(url: str, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=len(bodies))
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        posts = (client.post(f"{url}/process_video", json=each) for each in bodies)
        return list(await asyncio.gather(*posts))


@pytest.mark.parametrize("label", LABELS)
def test_a_clip_and_a_question_give_its_label(
    http: httpx.Client, label_clips: dict[str, Path], label: str
) -> None:
    request = {"video_path": str(label_clips[label]), "question": QUESTION}
    response = http.post("/process_video", json=request)
    assert response.status_code == 200
    assert response.json() == {"response": label}


@pytest.mark.parametrize("label", ["sad", "worried"])  # they look alike
def test_a_reason_names_what_is_seen_and_what_is_heard(
    http: httpx.Client, label_clips: dict[str, Path], label: str
) -> None:
    response = http.post("/process_video", json=body(label_clips[label], REASON)).json()["response"]
    assert FACES[FACE_OF[label]].cue in response
    assert VOICES[VOICE_OF[label]].cue in response
    assert response.endswith(f"the emotion is {label}.")


def test_the_answer_can_say_how_it_came_about(http: httpx.Client, clip_files: list[Path]) -> None:
    asked = body(clip_files[1], REASON, details=True, max_tokens=8)
    details = http.post("/process_video", json=asked).json()["details"]
    assert details["usage"]["prompt_tokens"] == len(details["prompt_token_ids"]) > 20
    assert details["usage"]["completion_tokens"] == len(details["token_ids"]) == 8
    assert details["finish_reason"] == "length"
    timings = details["timings_ms"]
    assert 0 < timings["decode"] < timings["first_token"] < timings["total"]
    provenance = details["provenance"]
    assert provenance["prompt_layout"] == "chat"
    assert provenance["frame_time_s"] == 0.0
    assert provenance["audio_span_s"][1] == pytest.approx(1.25, abs=0.1)
    assert provenance["zeroed"] == ["face_feature", "temporal_feature"]
    assert len(provenance["model_sha256"]) == len(provenance["clip_sha256"]) == 64


async def test_parity_is_asked_for_by_request(
    server_url: str, http: httpx.Client, clip_files: list[Path]
) -> None:
    chosen = {"parity": "reference", "layout": "evaluation", "tokenization": "4.35"}
    feature = {"features": {"face_feature": [40.0, -40.0] * 8}}
    asked = body(clip_files[2], REASON, details=True)
    plain, parity, featured = (
        response.json()["details"]
        for response in await post_all(server_url, [asked, asked | chosen, asked | feature])
    )
    named = ("parity", "prompt_layout", "tokenization", "audio_mode")
    assert [plain["provenance"][n] for n in named] == ["default", "chat", "4.30", "clean"]
    assert [parity["provenance"][n] for n in named] == [
        *("reference", "evaluation", "4.35", "reference")
    ]
    assert featured["provenance"]["zeroed"] == ["temporal_feature"]
    assert featured["provenance"]["features"] == ["face_feature"]
    assert parity["prompt_token_ids"] != plain["prompt_token_ids"]
    endless = http.post("/process_video", json=asked | ENDLESS | {"max_tokens": 40}).json()
    assert len(endless["details"]["token_ids"]) == 40 > len(plain["token_ids"])
    wrong = {"features": {"face_feature": [1.0] * 15}}
    refused = http.post("/process_video", json=asked | wrong)
    assert refused.status_code == 422
    assert "face_feature is (15,)" in refused.json()["details"]


def test_the_voice_is_measured_on_request(http: httpx.Client, clip_files: list[Path]) -> None:
    voice = http.post("/process_video", json=body(clip_files[7], voice=True)).json()["voice"]
    assert voice["energy_rms"] > 0
    assert 80 < voice["pitch_median_hz"] < 400


async def test_32_parallel_requests_give_the_serial_answers(
    server_url: str, label_clips: dict[str, Path], clip_files: list[Path]
) -> None:
    def bodies(clips: list[Path]) -> list[dict[str, Any]]:
        return [body(clip, f"{REASON} {i}", details=True) for i, clip in enumerate(clips)]

    clips = [*label_clips.values(), *clip_files] * 2
    # The parallel ones come first and on copies of their own, so that no cache answers for them.
    copies = [fresh_copy(clip, number) for number, clip in enumerate(clips)]
    parallel = [response.json() for response in await post_all(server_url, bodies(copies))]
    serial = [(await post_all(server_url, [each]))[0].json() for each in bodies(clips)]
    assert {p["details"]["usage"]["cached_tokens"] for p in parallel} == {0}
    assert [p["response"] for p in parallel] == [s["response"] for s in serial]
    assert [p["details"]["token_ids"] for p in parallel] == [
        s["details"]["token_ids"] for s in serial
    ]
    assert len({s["response"] for s in serial}) >= 9
    for label, answer in zip(label_clips, serial, strict=False):
        assert answer["response"].endswith(f"the emotion is {label}.")


async def test_a_second_question_runs_no_encoder(
    http: httpx.Client, clip_files: list[Path]
) -> None:
    generator = serve.get_deployment_handle("Generator", APP_NAME)
    new = fresh_copy(clip_files[0], 1000)
    await generator.encoder_calls.remote()
    first = http.post("/process_video", json=body(new, "one?", details=True)).json()["details"]
    assert first["usage"]["cached_tokens"] == 0
    assert await generator.encoder_calls.remote() == 1
    second = http.post("/process_video", json=body(new, "two?", details=True)).json()["details"]
    assert second["usage"]["cached_tokens"] >= 32
    assert await generator.encoder_calls.remote() == 0


async def test_emotions_are_probabilities_of_labels(
    http: httpx.Client, label_clips: dict[str, Path]
) -> None:
    generator = serve.get_deployment_handle("Generator", APP_NAME)
    for label, clip in label_clips.items():
        scores = http.post("/v1/emotions", json={"video_path": str(clip)}).json()
        assert scores["emotion"] == label
        assert sum(each["probability"] for each in scores["probabilities"]) == pytest.approx(1)
        assert scores["confidence"] == max(each["probability"] for each in scores["probabilities"])
        assert scores["label_mass"] > 0.9
    await generator.encoder_calls.remote()
    chosen = {"labels": ["worried", "a very sad person"], "question": "[emotion] Which?"}
    scores = http.post("/v1/emotions", json={"video_path": str(clip), **chosen}).json()
    assert [each["label"] for each in scores["probabilities"]] == chosen["labels"]
    assert await generator.encoder_calls.remote() == 0
    missing = http.post("/v1/emotions", json={"video_path": f"{clip}.none"})
    assert missing.status_code == 404


def test_both_ports_lead_to_one_server(
    http: httpx.Client, second_url: str, label_clips: dict[str, Path]
) -> None:
    for data in (label_clips["angry"].read_bytes(), label_clips["fear"].read_bytes()):
        file = {"file": data}
        there = httpx.post(f"{second_url}/process_video", data={"question": QUESTION}, files=file)
        here = http.post("/process_video", data={"question": QUESTION}, files=file)
        assert there.json() == here.json()
    models = httpx.get(f"{second_url}/v1/models").json()
    assert models == http.get("/v1/models").json()  # it tells when this server was started


def test_a_missing_file_is_404(http: httpx.Client, clips_root: Path) -> None:
    response = http.post("/process_video", json=body(clips_root / "none.mp4"))
    assert response.status_code == response.json()["code"] == 404
    assert response.json()["error"] == "Video file not found"
    assert str(clips_root / "none.mp4") in response.json()["details"]


@pytest.mark.parametrize("through", ["directly", "by a symlink", "by dots"])
def test_a_file_outside_the_roots_is_403(
    http: httpx.Client, clips_root: Path, tmp_path: Path, clip_files: list[Path], through: str
) -> None:
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(clip_files[0].read_bytes())
    link = clips_root / "link.mp4"
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    path = {
        "directly": outside,
        "by a symlink": link,
        "by dots": clips_root / ".." / ".." / os.path.relpath(outside, clips_root.parents[1]),
    }[through]
    response = http.post("/process_video", json=body(path))
    assert response.status_code == 403
    assert response.headers["X-Error-Code"] == "clip_forbidden"


def test_a_text_file_is_415(http: httpx.Client, clips_root: Path) -> None:
    text = clips_root / "text.mp4"
    text.write_text("this is a text file, not a video.\n" * 100)
    assert http.post("/process_video", json=body(text)).status_code == 415


def test_a_broken_clip_is_422(http: httpx.Client, clips_root: Path, clip_files: list[Path]) -> None:
    broken = clips_root / "broken.mp4"
    broken.write_bytes(clip_files[0].read_bytes()[:2000])
    response = http.post("/process_video", json=body(broken))
    assert response.status_code == 422
    assert response.headers["X-Error-Code"] == "undecodable_clip"


def test_an_over_long_question_is_422_and_names_the_limit(
    http: httpx.Client, clip_files: list[Path]
) -> None:
    response = http.post("/process_video", json=body(clip_files[0], "word " * 2500))
    assert response.status_code == 422
    assert response.headers["X-Error-Code"] == "question_too_long"
    assert "at most 2048" in response.json()["details"]


def test_a_body_that_trickles_in_is_cut_off(server_url: str) -> None:
    url = httpx.URL(server_url)
    head = f"POST /process_video HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection((url.host, url.port), timeout=30) as client:
        client.sendall(head.encode() + b"{")
        started = time.monotonic()
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < BODY_TIMEOUT_S + 5


async def test_too_many_requests_get_503_and_the_others_their_answers(
    server_url: str, clip_files: list[Path]
) -> None:
    num_requests = 2 * MAX_IN_FLIGHT
    long = ENDLESS | {"max_tokens": 1000}  # else the first are answered before the last have come
    bodies = [body(clip_files[i % 8], f"flood {i}", **long) for i in range(num_requests)]
    responses = await post_all(server_url, bodies)
    refused = [r for r in responses if r.status_code == 503]
    answered = [r for r in responses if r.status_code == 200]
    assert len(refused) + len(answered) == num_requests
    assert len(answered) >= MAX_IN_FLIGHT
    assert refused, "nothing was refused"
    assert {r.headers["X-Error-Code"] for r in refused} == {"overloaded"}
    assert all(int(r.headers["Retry-After"]) >= 1 for r in refused)


async def test_a_client_that_leaves_frees_the_engine(
    server_url: str, clip_files: list[Path]
) -> None:
    generator = serve.get_deployment_handle("Generator", APP_NAME)
    long = body(clip_files[0], "a long one", **ENDLESS)
    async with httpx.AsyncClient() as client:
        leaving = asyncio.create_task(
            client.post(f"{server_url}/process_video", json=long, timeout=60)
        )
        async with asyncio.timeout(30):
            while await num_running(generator) == 0:
                await asyncio.sleep(0.02)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
    await asyncio.sleep(0.5)
    (short,) = await post_all(server_url, [body(clip_files[0], "a short one", max_tokens=2)])
    assert short.status_code == 200
    assert await num_running(generator) == 0  # 1 while the long one still runs


async def num_running(generator: DeploymentHandle) -> float:
    load: dict[str, float] = await generator.record_autoscaling_stats.remote()
    return load["num_running"]


def test_ask_prints_the_answer_of_a_server(
    server_url: str, label_clips: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--url", server_url, "--temperature", "0", "--max-tokens", "8"]
    assert main(["ask", str(label_clips["fear"]), QUESTION, *options]) == 0
    assert capsys.readouterr().out == "fear\n"
    assert main(["ask", "/nowhere.mp4", QUESTION, *options]) == 2
    assert "error: Video file not" in capsys.readouterr().err


def test_a_dead_engine_is_replaced(http: httpx.Client, clip_files: list[Path]) -> None:
    """Last in the file: it costs a restart of the engine."""
    ours = psutil.Process().children(recursive=True)
    (replica,) = [p for p in ours if f"ServeReplica:{APP_NAME}:Generator" in p.name()]
    (engine,) = filter(is_engine, replica.children())
    engine.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 120
    codes = set()
    while time.monotonic() < deadline:
        response = http.post("/process_video", json=body(clip_files[0]))
        if response.status_code == 200:
            break
        codes.add(response.headers.get("X-Error-Code"))
        time.sleep(1)
    assert response.status_code == 200
    assert codes <= {DeadlineExceededError.code}  # else the ingress asked again
