"""Run by test_plain_vllm.py in a process of its own: the plugin under plain vLLM, results as JSON."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, VideoMAEConfig, ViTConfig
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

from serve_app.model.config import EmotionLlamaConfig, tower_input_shape

TEXT = "<s>[INST] <video><VideoHere></video> What? [/INST]"
GREEDY = SamplingParams(temperature=0, max_tokens=24)
LORA_RANK, LORA_ALPHA = 8, 16
LORA_TARGETS = ("q_proj", "v_proj")


def start(model: Path, **kwargs: Any) -> LLM:
    return LLM(
        model=str(model),
        dtype="float32",
        enforce_eager=True,
        max_model_len=1024,
        max_num_seqs=4,
        kv_cache_memory_bytes=32 << 20,
        **kwargs,
    )


def clip() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "frame": rng.integers(0, 256, (448, 448, 3), dtype=np.uint8),
        "waveform": rng.integers(-3000, 3000, 32_000, dtype=np.int16),
    }


def tokens(
    llm: LLM, prompt: Any = TEXT, lora: LoRARequest | None = None, **extra: Any
) -> list[int]:
    text_or_ids = {"prompt": prompt} if isinstance(prompt, str) else {"prompt_token_ids": prompt}
    request = text_or_ids | {"multi_modal_data": {"video": clip() | extra}}
    (output,) = llm.generate(request, GREEDY, use_tqdm=False, lora_request=lora)
    return list(output.outputs[0].token_ids)


def lora_names(tensors: dict[str, torch.Tensor]) -> list[str]:
    return [n for n in tensors if n.split(".")[-2] in LORA_TARGETS and "language_model" in n]


def write_adapter(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A random PEFT adapter on q_proj and v_proj."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    adapter = {}
    for name in lora_names(tensors):
        rows, columns = tensors[name].shape
        key = f"base_model.model.{name.removesuffix('.weight')}"
        adapter[f"{key}.lora_A.weight"] = torch.randn(LORA_RANK, columns, generator=generator) / 8
        adapter[f"{key}.lora_B.weight"] = torch.randn(rows, LORA_RANK, generator=generator) / 8
    save_file(adapter, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": LORA_RANK,
        "lora_alpha": LORA_ALPHA,
        "target_modules": list(LORA_TARGETS),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def write_merged(checkpoint: Path, adapter: Path, out: Path) -> None:
    shutil.copytree(checkpoint, out)
    tensors = load_file(checkpoint / "model.safetensors")
    weights = load_file(adapter / "adapter_model.safetensors")
    for name in lora_names(tensors):
        key = f"base_model.model.{name.removesuffix('.weight')}"
        delta = weights[f"{key}.lora_B.weight"] @ weights[f"{key}.lora_A.weight"]
        tensors[name] = tensors[name] + LORA_ALPHA / LORA_RANK * delta
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def write_with_towers(checkpoint: Path, out: Path) -> None:
    """The tiny checkpoint with a face tower (ViT) and a temporal tower (VideoMAE)."""
    shutil.copytree(checkpoint, out)
    config = EmotionLlamaConfig.from_pretrained(checkpoint)
    width = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    picture = {"num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    config.face_config = ViTConfig(**width, **picture)
    config.temporal_config = VideoMAEConfig(**width, **picture, num_frames=4, tubelet_size=2)
    config.save_pretrained(out)
    torch.manual_seed(2)
    tensors = load_file(checkpoint / "model.safetensors")
    for name in ("face", "temporal"):
        tower = AutoModel.from_config(getattr(config, f"{name}_config"))
        tensors |= {f"{name}_tower.{key}": value for key, value in tower.state_dict().items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def ask_with_towers(checkpoint: Path) -> dict[str, Any]:
    """Tokens for the pixels of both towers, and for the features plain transformers makes of them."""
    config = EmotionLlamaConfig.from_pretrained(checkpoint)
    tensors = load_file(checkpoint / "model.safetensors")
    pixels, features = {}, {}
    for name, tower_config in (("face", config.face_config), ("temporal", config.temporal_config)):
        tower = AutoModel.from_config(tower_config).eval()
        prefix = f"{name}_tower."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        tower.load_state_dict(own)
        shape = tower_input_shape(tower_config)
        pixels[f"{name}_pixels"] = torch.randn(shape, generator=torch.Generator().manual_seed(3))
        with torch.inference_mode():
            hidden = tower(pixels[f"{name}_pixels"][None]).last_hidden_state
        features[f"{name}_feature"] = hidden[0].mean(dim=0).clone()
    llm = start(checkpoint)
    return {
        "tower pixels": tokens(llm, **pixels),
        "tower features": tokens(llm, **features),
        "tower zeros": tokens(llm),
    }


def start_without(checkpoint: Path, name: str, out: Path) -> str:
    """The error of starting without one tensor."""
    shutil.copytree(checkpoint, out)
    tensors = load_file(checkpoint / "model.safetensors")
    del tensors[name]
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    try:
        start(out)
    except ValueError as error:
        return str(error)
    return "started"


def main(checkpoint: Path, folder: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    write_adapter(folder / "adapter", tensors)
    write_merged(checkpoint, folder / "adapter", folder / "merged")
    lora = LoRARequest("adapter", 1, str(folder / "adapter"))
    results: dict[str, Any] = {}

    llm = start(checkpoint, enable_lora=True, max_lora_rank=LORA_RANK)
    tokenizer = llm.get_tokenizer()
    results["text"] = tokens(llm)
    results["ids"] = tokens(llm, tokenizer(TEXT, add_special_tokens=False)["input_ids"])
    feature = np.full(64, 2.0, np.float32)
    results["face_feature"] = tokens(llm, face_feature=feature)
    results["lora"] = tokens(llm, lora=lora)
    scored = llm.generate(
        {"prompt": TEXT, "multi_modal_data": {"video": clip()}},
        SamplingParams(max_tokens=1, prompt_logprobs=0),
        use_tqdm=False,
    )
    results["num_prompt_logprobs"] = len(scored[0].prompt_logprobs)
    results["num_prompt_tokens"] = len(scored[0].prompt_token_ids)
    results["merged"] = tokens(start(folder / "merged"))
    q_proj = "language_model.model.layers.0.self_attn.q_proj.weight"
    results["without q_proj"] = start_without(checkpoint, q_proj, folder / "no_q")
    write_with_towers(checkpoint, folder / "towers")
    results |= ask_with_towers(folder / "towers")
    bias = "projectors.audio.bias"
    results["without audio bias"] = start_without(checkpoint, bias, folder / "no_bias")
    results["our modules"] = sorted(name for name in sys.modules if name.startswith("serve_app."))
    print("RESULTS " + json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
