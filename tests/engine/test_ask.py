"""`emotion-llama ask --model`: the engine in its own process, no Ray, no server, one JSON object."""

import json
import subprocess
import sys
from pathlib import Path

from serve_app.engine import Engine
from serve_app.media.decode import decode_clip
from serve_app.settings import MediaSettings
from serve_app.types import DecodeOptions, Sampling

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
    answer = await engine.answer(clip, QUESTION, Sampling(temperature=0, max_tokens=16))
    assert printed["text"] == answer.text
    assert printed["token_ids"] == answer.token_ids
    assert printed["prompt_token_ids"] == answer.prompt_token_ids
    assert printed["finish_reason"] == "length"
    assert set(printed["usage"]) == {"prompt_tokens", "completion_tokens", "cached_tokens"}
    assert set(printed["timings_ms"]) == {"decode", "queue", "first_token", "total"}
    # A list where ours is a tuple: JSON has no other.
    assert printed["provenance"] == json.loads(json.dumps(answer.provenance))
    assert printed["provenance"]["frame_time_s"] > 0
