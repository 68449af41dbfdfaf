"""Saves what the plugin computes for clips as arrays: python scripts/clip_arrays.py MODEL INPUTS.npz OUT.npz

Runs on a CPU only, because it accesses the model inside this process.

INPUTS.npz holds for each clip `{clip}/image_u8` (S, S, 3), `{clip}/audio_i16` (num_samples,), and any number
of `{clip}/{prompt}/prompt_ids` with the clip marker in place. OUT.npz gets, in float32,

    {clip}/ln_vision_out           (1 + num_patches, vision width)   after the vision tower's last norm
    {clip}/audio_feature           (audio width,)                    HuBERT's mean over time
    {clip}/image_emb               (num_clip_positions, hidden_size) what LLaMA gets for the clip
    {clip}/{prompt}/logits0        (vocab_size,)                     raw, of the first token
    {clip}/{prompt}/sample_probs0  (vocab_size,)                     what the first token is drawn from
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

import numpy as np
import torch
from vllm import LLM, SamplingParams

from serve_app.engine.args import PENALTY_CLASS
from serve_app.model.arguments import REPETITION_PENALTY

# The defaults of the original's API, with which its first-step distributions were recorded.
ORIGINAL_SAMPLING = SamplingParams(
    temperature=0.2,
    top_p=0.9,
    top_k=50,
    extra_args={REPETITION_PENALTY: 1.05},
    max_tokens=1,
    logprobs=-1,
    detokenize=False,
)
GREEDY = SamplingParams(temperature=0, max_tokens=1, logprobs=-1, detokenize=False)
Arrays = dict[str, "np.ndarray[Any, Any]"]


def start(model: Path, logprobs_mode: str) -> LLM:
    return LLM(
        model=str(model),
        dtype="float32",
        enforce_eager=True,
        max_model_len=1024,
        max_num_seqs=4,
        kv_cache_memory_bytes=32 << 20,
        max_logprobs=-1,
        logprobs_mode=logprobs_mode,
        logits_processors=[PENALTY_CLASS],
    )


def clip_of(inputs: Arrays, name: str) -> Arrays:
    return {"frame": inputs[f"{name}/image_u8"], "waveform": inputs[f"{name}/audio_i16"]}


def tower_arrays(llm: LLM, name: str, inputs: Arrays) -> Arrays:
    clip = {field: torch.tensor(value) for field, value in clip_of(inputs, name).items()}

    @torch.inference_mode()
    def compute(model: Any) -> Arrays:
        cls, patches = model.vision_tower(clip["frame"][None])
        zeros = {
            f"{kind}_feature": [torch.zeros(getattr(model.config, f"{kind}_feature_size"))]
            for kind in ("face", "temporal")
        }
        embeddings = model.embed_multimodal(**{k: [v] for k, v in clip.items()}, **zeros)
        return {
            f"{name}/ln_vision_out": torch.cat([cls, patches[0]]).numpy(),
            f"{name}/audio_feature": model.audio_tower(clip["waveform"]).numpy(),
            f"{name}/image_emb": embeddings[0].numpy(),
        }

    arrays: list[Arrays] = llm.apply_model(compute)
    return arrays[0]


def first_step(
    llm: LLM, inputs: Arrays, key: str, params: SamplingParams
) -> "np.ndarray[Any, Any]":
    """(vocab_size,) values of the first step, of the kind that the engine's logprobs_mode reports."""
    request = {
        "prompt_token_ids": inputs[key].tolist(),
        "multi_modal_data": {"video": clip_of(inputs, key.split("/")[0])},
    }
    (output,) = llm.generate(request, params, use_tqdm=False)
    reported = output.outputs[0].logprobs[0]
    return np.array([reported[token].logprob for token in range(len(reported))], np.float32)


def main(model: Path, inputs_file: Path, out: Path) -> None:
    inputs = dict(np.load(inputs_file))
    names = sorted({key.split("/")[0] for key in inputs})
    prompts = [key for key in inputs if key.endswith("/prompt_ids")]
    llm = start(model, "raw_logits")
    results: Arrays = {}
    for name in names:
        results |= tower_arrays(llm, name, inputs)
    for key in prompts:
        results[key.replace("prompt_ids", "logits0")] = first_step(llm, inputs, key, GREEDY)
    # In a second variable: the first engine, if dropped, would take vLLM's process-wide state with it.
    sampler = start(model, "processed_logprobs")
    for key in prompts:
        logprobs = first_step(sampler, inputs, key, ORIGINAL_SAMPLING)
        results[key.replace("prompt_ids", "sample_probs0")] = np.exp(logprobs)
    np.savez(out, **results)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
