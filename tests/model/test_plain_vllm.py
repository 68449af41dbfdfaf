"""The plugin needs nothing but vLLM: `LLM.generate` in a process without Ray and without the rest of ours."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def results(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    script = Path(__file__).with_name("plain_vllm.py")
    folder = tmp_path_factory.mktemp("plain_vllm")
    run = subprocess.run(
        [sys.executable, script, tiny_checkpoint, folder], capture_output=True, text=True
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULTS ")]
    assert lines, run.stderr[-3000:]
    parsed: dict[str, Any] = json.loads(lines[0].removeprefix("RESULTS "))
    return parsed


def test_only_the_plugin_was_loaded(results: dict[str, Any]) -> None:
    # lifetime is an entry point of its own, and does nothing where no Engine of ours is.
    others = {name for name in results["our modules"] if not name.startswith("serve_app.model")}
    assert others == {"serve_app.lifetime"}


def test_text_and_token_prompts_agree(results: dict[str, Any]) -> None:
    assert results["text"] == results["ids"]
    assert len(results["text"]) == 24


def test_a_ready_face_feature_moves_the_answer(results: dict[str, Any]) -> None:
    assert results["face_feature"] != results["text"]


def test_optional_towers_compute_the_features_plain_transformers_does(
    results: dict[str, Any],
) -> None:
    assert results["tower pixels"] == results["tower features"]
    assert results["tower zeros"] == results["text"] != results["tower pixels"]


def test_prompt_logprobs_do_not_kill_the_engine(results: dict[str, Any]) -> None:
    assert results["num_prompt_logprobs"] == results["num_prompt_tokens"] > 260


def test_a_lora_adapter_equals_merged_weights(results: dict[str, Any]) -> None:
    assert results["lora"] == results["merged"]
    assert results["lora"] != results["text"]


def test_a_missing_tensor_stops_the_start_and_is_named(results: dict[str, Any]) -> None:
    assert "layers.0.self_attn.q_proj.weight" in results["without q_proj"]
    assert "projectors.audio.bias" in results["without audio bias"]
