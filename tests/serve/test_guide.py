"""The code blocks of the original's API guide, run as they stand: only host, port and path are replaced."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[3] / "shared" / "api-guide.md"
HOST = re.compile(r"http://(127\.0\.0\.1|your-server-ip):78\d\d")
PATH = "/home/czb/project/Emotion-LLaMA/examples/sample_00004671.mp4"
# The Windows block begins with one, which no shell takes.
NOTE = re.compile(r"^# .*\n", re.MULTILINE)

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not GUIDE.is_file(), reason="the guide is not beside the checkout"),
]


def blocks(language: str, having: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return [block for block in found if having in block]


def mended(block: str, url: str, clip: Path) -> str:
    return HOST.sub(url, block).replace(PATH, str(clip))


@pytest.fixture(scope="module")
def clip(label_clips: dict[str, Path]) -> Path:
    return label_clips["angry"]


def run_python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_its_python_for_both_routes(server_url: str, second_url: str, clip: Path) -> None:
    gradio, process_video = blocks("python", "print(response.json())")
    answer = run_python(mended(gradio, second_url, clip))  # its two ports
    assert "'data': ['The " in answer and "'duration': " in answer
    assert "angry" in answer
    answer = run_python(mended(process_video, server_url, clip))
    assert answer.startswith("{'response': 'The ")
    assert "angry" in answer


@pytest.mark.parametrize("language", ["bash", "cmd"])
def test_its_curl_commands(server_url: str, clip: Path, language: str) -> None:
    commands = blocks(language, "curl -X POST")
    assert len(commands) == 2
    for command in commands:
        text = NOTE.sub("", mended(command, server_url, clip))
        run = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=60)
        assert run.returncode == 0, run.stderr
        body = json.loads(run.stdout)
        (said,) = body["data"] if "data" in body else [body["response"]]
        assert "angry" in said


def test_its_error_handling_meets_true_statuses(server_url: str, clip: Path) -> None:
    (handler,) = blocks("python", "raise_for_status")
    (request,) = [b for b in blocks("python", "print(response.json())") if "api/predict" in b]
    set_up = request.split("response = requests.post")[0]
    answered = run_python(mended(set_up + handler, server_url, clip))
    assert answered.startswith("Result: The ")
    missing = run_python(mended(set_up + handler, server_url, clip.with_name("absent.mp4")))
    assert missing.startswith("Request failed: 404 Client Error")


def test_its_fastapi_server_runs_over_ours(server_url: str, clip: Path) -> None:
    """Its import is stood for by a call of this server; the module of that name comes with the page."""
    (server,) = blocks("python", "from app_EmotionLlamaClient import")
    module = (
        "import sys, types, httpx\n"
        "module = types.ModuleType('app_EmotionLlamaClient')\n"
        "def process_video_question(path, question):\n"
        "    body = {'video_path': path, 'question': question}\n"
        f"    answer = httpx.post('{server_url}/process_video', json=body, timeout=60)\n"
        "    return answer.raise_for_status().json()['response']\n"
        "module.process_video_question = process_video_question\n"
        "sys.modules['app_EmotionLlamaClient'] = module\n"
    )
    ask = (
        f"server = {server!r}\n"
        "namespace = {'__name__': 'api_server'}\n"  # not __main__: it would listen, on every address
        "exec(server, namespace)\n"
        "from fastapi.testclient import TestClient\n"
        f"body = {{'video_path': '{clip}', 'question': '[emotion] What?'}}\n"
        "print(TestClient(namespace['app']).post('/process_video', json=body).json())\n"
    )
    assert run_python(module + ask).strip() == "{'response': 'angry'}"
