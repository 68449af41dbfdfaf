"""Whole batches on a real cluster: submitted as a job, and resumed after everything has been killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from heads import Head
from lib.ports import free_port
from processes import is_engine

from serve_app.demo.clips import label_scenes
from serve_app.demo.world import write_scenes

CONFIG = Path(__file__).parents[2] / "configs" / "serve.yaml"
NUM_CLIPS, ROWS_PER_CLIP = 54, 16
NUM_ROWS = (NUM_CLIPS + 2) * ROWS_PER_CLIP
TIMEOUT_S = 150
QUESTIONS = ("[emotion] What is the emotion expressed in this video?", "[reason] What is seen?")

Record = dict[str, Any]


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of NUM_ROWS rows. Two clips are bad: one is missing, one is truncated."""
    folder = tmp_path_factory.mktemp("manifest")
    clips = write_scenes(label_scenes(NUM_CLIPS, 9_000_000), folder / "clips")
    (folder / "broken.mp4").write_bytes(clips[0].read_bytes()[:2000])
    clips = [*clips[:9], folder / "none.mp4", *clips[9:], folder / "broken.mp4"]
    path = folder / "manifest.jsonl"
    with path.open("w") as file:
        for number, clip in enumerate(clip for clip in clips for _ in range(ROWS_PER_CLIP)):
            nth = number % ROWS_PER_CLIP
            asked = (
                {"task": "emotion"} if nth == 0 else {"question": f"{QUESTIONS[nth % 2]} ({nth})"}
            )
            video = str(clip.relative_to(folder))
            file.write(json.dumps({"id": f"row-{number}", "video": video, **asked}) + "\n")
    return path


def batch_arguments(manifest: Path, out: Path) -> list[str]:
    files = ["--input", str(manifest), "--output", str(out)]
    model = ["--config", str(CONFIG), "--model", str(CONFIG.parents[1] / "serve_app/assets/demo")]
    return ["batch", *files, *model, "--temperature", "0", "--report", f"{out}.report"]


@pytest.fixture(scope="module")
def undisturbed(head: Head, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the batch, submitted as a job to the cluster."""
    out = tmp_path_factory.mktemp("job") / "out.jsonl"
    command = [str(Path(sys.executable).parent / "ray"), "job", "submit"]
    command += ["--address", head.dashboard_url, "--", "emotion-llama"]
    command += batch_arguments(manifest, out)
    done = subprocess.run(
        command, env=head.environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    said = done.stdout + done.stderr
    assert out.is_file(), said
    assert "exit code 3" in said, "rows have errors"
    assert re.search(
        rf"{NUM_ROWS} rows  32 errors \((clip_not_found|undecodable_clip) 16, ", said
    ), said
    return out


def read(out: Path) -> list[Record]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_a_submitted_job_answers_every_row_in_order(undisturbed: Path) -> None:
    records = read(undisturbed)
    assert [record["id"] for record in records] == [f"row-{number}" for number in range(NUM_ROWS)]
    errors = [record["error"]["code"] for record in records if record["error"]]
    assert errors == ["clip_not_found"] * 16 + ["undecodable_clip"] * 16
    scored, answered = records[0], records[2]
    assert scored["label"] == "happy"
    assert sum(each["probability"] for each in scored["probabilities"]) == pytest.approx(1)
    assert answered["text"]
    assert answered["usage"]["completion_tokens"] > 0
    assert answered["timings_ms"]["decode"] > 0
    assert len(answered["provenance"]["model_sha256"]) == 64


def test_rows_about_one_clip_are_encoded_once(undisturbed: Path) -> None:
    """All but the first of them find the start of the prompt, including the clip, in the engine's cache."""
    records = [record for record in read(undisturbed) if record["usage"] and record["text"]]
    cached = [record["usage"]["cached_tokens"] > 0 for record in records]
    assert sum(cached) > 0.5 * len(cached)


def test_the_report_says_what_was_done(undisturbed: Path) -> None:
    report = json.loads(Path(f"{undisturbed}.report").read_text())
    assert (report["num_rows"], report["num_errors"], report["num_resumed"]) == (NUM_ROWS, 32, 0)
    assert report["rows_per_s"] > 0
    assert 0 < report["busy_shares"]["engine"] <= 1
    assert 0 < report["busy_shares"]["cpu"] <= 1


def below(head: Head, is_wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    found = []
    for process in head.process.children(recursive=True):
        try:
            if is_wanted(process):
                found.append(process)
        except psutil.Error:
            continue
    return found


def decodes(process: psutil.Process) -> bool:
    """Whether a process is a decode worker or the server that forks them."""
    return "multiprocessing.forkserver" in " ".join(process.cmdline())


def is_decode_actor(process: psutil.Process) -> bool:
    return "DecodeStage" in " ".join(process.cmdline())


def wait_for_parts(folder: Path, count: int, driver: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while len(list(folder.glob("part-*.jsonl"))) < count:
        assert driver.poll() is None, f"the driver ended with {driver.returncode}"
        assert time.monotonic() < deadline, f"no {count} parts in {folder}"
        time.sleep(0.1)


def start_driver(
    address: str, head: Head, manifest: Path, out: Path, *more: str
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "serve_app.cli", *batch_arguments(manifest, out), *more]
    environment = {**head.environment, "RAY_ADDRESS": address}
    with Path(f"{out}.log").open("ab") as log:
        return subprocess.Popen(command, env=environment, stderr=log)


@pytest.mark.timeout(700)
def test_killed_engine_decoders_and_driver_lose_and_repeat_nothing(
    head: Head, manifest: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    parts = tmp_path / "out.jsonl.parts"
    driver = start_driver(head.address, head, manifest, out)
    wait_for_parts(parts, 1, driver)
    engines = below(head, is_engine)
    assert engines, "there is an engine to kill"
    workers, actors = below(head, decodes), below(head, is_decode_actor)
    assert workers and actors
    for process in (*engines, *workers[1:]):
        process.kill()
    time.sleep(1)
    for process in actors:
        process.kill()
    wait_for_parts(parts, 2, driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert not out.exists()
    lines = [part.read_text().splitlines() for part in parts.glob("part-*.jsonl")]
    num_kept = sum(len(each) - 1 for each in lines)  # the first names the rows

    driver = start_driver(head.address, head, manifest, out, "--resume")
    assert driver.wait(TIMEOUT_S) == 3, Path(f"{out}.log").read_text()
    report = json.loads(Path(f"{out}.report").read_text())
    assert report["num_resumed"] == num_kept < NUM_ROWS
    assert [answer_of(record) for record in read(out)] == [
        answer_of(record) for record in read(undisturbed)
    ]

    before = out.read_bytes()
    nowhere = f"127.0.0.1:{free_port()}"  # a finished job needs no cluster
    assert start_driver(nowhere, head, manifest, out, "--resume").wait(TIMEOUT_S) == 3
    assert out.read_bytes() == before


def answer_of(record: Record) -> Record:
    """A record without the fields that depend on a clock or a cache."""
    kept = ("id", "text", "finish_reason", "label", "error")
    probabilities = [round(each["probability"], 3) for each in record["probabilities"] or []]
    return {name: record[name] for name in kept} | {"probabilities": probabilities}
