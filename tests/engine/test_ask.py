"""`emotion-llama ask --model`: the engine in its own process, no Ray, no server, one JSON object."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from serve_app.cli import main
from serve_app.engine.engine import Engine
from serve_app.media.decode import decode_clip
from serve_app.settings import MediaSettings
from serve_app.types import NO_SOURCE, AnswerRequest, DecodeOptions, Sampling

QUESTION = "[emotion] What is the emotion expressed in this video?"


async def test_it_prints_what_the_engine_answers(
    engine: Engine, tiny_checkpoint: Path, clip_files: list[Path]
) -> None:
    command = [sys.executable, "-m", "serve_app.cli", "ask", str(clip_files[0]), QUESTION]
    options = ["--model", str(tiny_checkpoint), "--temperature", "0", "--max-tokens", "16"]
    run = subprocess.run(
        [*command, *options, "--frame", "0.5", "--json"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    printed = json.loads(run.stdout)

    data = clip_files[0].read_bytes()
    clip = decode_clip(data, DecodeOptions(frame=0.5), MediaSettings(), image_size=448)
    sampling = Sampling(temperature=0, max_tokens=16)
    answer = await engine.answer(clip, AnswerRequest(NO_SOURCE, QUESTION, sampling=sampling))
    assert printed["text"] == answer.text
    assert printed["token_ids"] == answer.token_ids
    assert printed["prompt_token_ids"] == answer.prompt_token_ids
    assert printed["finish_reason"] == "length"
    assert set(printed["usage"]) == {"prompt_tokens", "completion_tokens", "cached_tokens"}
    assert set(printed["timings_ms"]) == {"decode", "queue", "first_token", "total"}
    # A list where ours is a tuple: JSON has no other.
    assert printed["provenance"] == json.loads(json.dumps(answer.provenance))
    assert printed["provenance"]["frame_time_s"] > 0


def test_many_requests_are_answered_in_order_with_errors_as_objects(
    tiny_checkpoint: Path, clip_files: list[Path], tmp_path: Path
) -> None:
    prepared, features = tmp_path / "clip.npz", tmp_path / "features.npz"
    assert main(["preprocess", str(clip_files[0]), "--out", str(prepared)]) == 0
    np.savez(features, video_features=np.ones((3, 64), np.float32))
    short = {"temperature": 0, "max-tokens": 8}
    lines: list[Any] = [
        {"clip": str(clip_files[0]), "question": QUESTION, "max_tokens": 4},
        {"clip": str(prepared), "question": QUESTION, **short},
        {"clip": str(clip_files[0]), "question": QUESTION, **short},
        {"clip": str(clip_files[0]), "question": QUESTION, "features": str(features), **short},
        {"clip": str(clip_files[0]), "question": QUESTION, "layout": "training", **short},
        {"clip": "/none.mp4", "question": QUESTION},
        {"clip": str(clip_files[0])},
        {"clip": str(clip_files[0]), "question": "?", "colour": "red"},
        {"clip": str(clip_files[0]), "question": "?", "tokenization": "5.0"},
        {"clip": str(clip_files[0]), "question": "<VideoHere>"},
        {"clip": str(clip_files[0]), "question": "a " * 3000},
        ["no object"],
        {"clip": "a\0b", "question": "?"},
        {"clip": str(clip_files[0]), "question": "?", "frame": 10**400},
        {"clip": str(clip_files[0]), "question": "?", "max-tokens": 1, "max_tokens": 2},
        {"clip": str(clip_files[0]), "question": "two\u2028lines", "max_tokens": 4},
    ]
    file = tmp_path / "requests.jsonl"
    text = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    file.write_text(f"{text}\n\n{'[' * 100_000}\nno JSON\n", encoding="utf-8-sig")
    command = [sys.executable, "-m", "serve_app.cli", "ask", "--requests", str(file)]
    options = ["--model", str(tiny_checkpoint), "--parity", "reference", "--temperature", "0"]
    run = subprocess.run([*command, *options], capture_output=True, text=True)
    assert run.returncode == 3, run.stderr[-2000:]
    assert "12 of 18 requests failed" in run.stderr
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    few, from_npz, from_mp4, with_features, training = answers[:5]
    assert [len(a["token_ids"]) for a in answers[:5]] == [4, 8, 8, 8, 8]
    assert few["provenance"]["parity"] == "reference"
    # The npz holds the clean waveform, which differs from the original's; its frame does not.
    assert from_npz["provenance"]["audio_mode"] is None
    assert from_mp4["provenance"]["audio_mode"] == "reference"
    assert from_npz["prompt_token_ids"] == from_mp4["prompt_token_ids"]
    assert len(with_features["provenance"]["features"]) == 3
    assert with_features["provenance"]["zeroed"] == []
    assert training["prompt_token_ids"].count(0) == 260
    assert [each.get("error_code", "answered") for each in answers[5:]] == [
        *("clip_not_found", "invalid_request", "invalid_request", "invalid_request"),
        *("invalid_request", "question_too_long", "invalid_request", "invalid_request"),
        *("invalid_request", "invalid_request", "answered", "invalid_request", "invalid_request"),
    ]
    assert {"error", "code", "details", "error_code"} == answers[5].keys()
    assert answers[5]["code"] == 404
    assert "['colour']" in answers[7]["details"]
    assert "tokenization" in answers[8]["details"]
    assert "<VideoHere>" in answers[9]["details"]
    assert "at most 2048" in answers[10]["details"]
