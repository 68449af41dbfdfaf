"""A batch answers like HTTP: it takes OpenAI's batch file, and OpenAI's client can parse its output."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion

from serve_app.bundled import DEMO_CHECKPOINT

LAPTOP = Path(__file__).parents[2] / "configs" / "serve.yaml"

NUM_QUESTIONS = 100
QUESTIONS = (
    "[emotion] What is the emotion expressed in this video?",
    "[reason] What are the facial expressions and vocal tone used in the video?",
    "[reason] What is the emotional state of the person in the video? Please tell me the reason.",
    "Which emotion is it?",
)
TIMEOUT_S = 280
MARK = "EMOTION_LLAMA_TEST_OF"  # in the environment of the batch's processes

Line = dict[str, Any]


@pytest.fixture(scope="module")
def lines(label_clips: dict[str, Path]) -> list[Line]:
    """100 questions, and two requests that cannot be answered."""
    clips = list(label_clips.values())
    bodies = [
        {
            "model": "emotion-llama",
            "messages": chat(
                clips[number % len(clips)], f"{QUESTIONS[number // 9 % 4]}{' ' * (number // 36)}"
            ),
            "temperature": 0,
            "max_tokens": 60,
        }
        for number in range(NUM_QUESTIONS)
    ]
    bodies.append({**bodies[0], "messages": chat(clips[0].parent / "none.mp4", "What?")})
    bodies.append({**bodies[0], "temperature": 3})
    return [
        {"custom_id": f"q-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number, body in enumerate(bodies)
    ]


def chat(clip: Path, question: str) -> list[Line]:
    content = [
        {"type": "video_url", "video_url": {"url": str(clip)}},
        {"type": "text", "text": question},
    ]
    return [{"role": "user", "content": content}]


@pytest.fixture(scope="module")
def outputs(lines: list[Line], tmp_path_factory: pytest.TempPathFactory) -> list[Line]:
    """The output of a batch with the server's settings, run in its own process with its own Ray."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = ["--input", str(folder / "in.jsonl"), "--output", str(folder / "out.jsonl")]
    model = ["--config", str(LAPTOP), "--model", str(DEMO_CHECKPOINT)]
    command = [sys.executable, "-m", "serve_app.cli", "batch", *files, *model]
    environment = {**os.environ, MARK: "batch"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 3, done.stderr
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def test_its_processes_end_with_it(outputs: list[Line]) -> None:
    deadline = time.monotonic() + 30
    while left := [process for process in psutil.process_iter() if is_marked(process)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def is_marked(process: psutil.Process) -> bool:
    try:
        return MARK in process.environ() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def test_openais_client_parses_every_answer(lines: list[Line], outputs: list[Line]) -> None:
    assert [output["custom_id"] for output in outputs] == [line["custom_id"] for line in lines]
    for output in outputs[:NUM_QUESTIONS]:
        assert output["error"] is None
        assert output["response"]["status_code"] == 200
        completion = ChatCompletion.model_validate(output["response"]["body"], strict=True)
        assert completion.choices[0].message.content
        assert completion.usage is not None and completion.usage.completion_tokens > 0
    assert len({output["id"] for output in outputs}) == len(outputs)


def test_a_request_that_fails_has_the_status_and_the_body_that_it_has_over_http(
    lines: list[Line], outputs: list[Line], server_url: str
) -> None:
    import httpx

    for line, output in zip(lines[NUM_QUESTIONS:], outputs[NUM_QUESTIONS:], strict=True):
        over_http = httpx.post(f"{server_url}{line['url']}", json=line["body"], timeout=60)
        assert output["response"]["status_code"] == over_http.status_code
        said, expected = output["response"]["body"]["error"], over_http.json()["error"]
        assert (said["type"], said["code"]) == (expected["type"], expected["code"])
        assert output["error"]["code"] == expected["code"]
    assert "temperature" in outputs[-1]["error"]["message"]


def test_the_same_100_questions_get_the_same_text_over_http(
    lines: list[Line], outputs: list[Line], server_url: str
) -> None:
    client = OpenAI(base_url=f"{server_url}/v1", api_key="none", max_retries=0)

    def ask(line: Line) -> str | None:
        answer: ChatCompletion = client.chat.completions.create(**line["body"])
        return answer.choices[0].message.content

    with ThreadPoolExecutor(16) as threads:
        over_http = list(threads.map(ask, lines[:NUM_QUESTIONS]))
    in_batch = [
        output["response"]["body"]["choices"][0]["message"]["content"]
        for output in outputs[:NUM_QUESTIONS]
    ]
    assert in_batch == over_http
    assert len(set(in_batch)) == 18, "nine labels, nine reasons"
