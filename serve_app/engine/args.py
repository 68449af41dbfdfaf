"""Turns our settings into vLLM's engine arguments and environment, on CPU and on GPU."""

import json
import os
from pathlib import Path
from typing import Any

from serve_app.checkpoint import Checkpoint
from serve_app.errors import CheckpointError
from serve_app.settings import EngineSettings

CPU_BLOCK_SIZE = 32  # vLLM's CPU default of 128 would leave half of a clip's positions uncached
GPU_BLOCK_SIZE = 16
CPU_KV_CACHE_BYTES = 256 << 20

ADAPTER_NAME = "emotion-llama"
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # the values vLLM accepts for max_lora_rank
PENALTY_CLASS = "serve_app.model.repetition_penalty:GeneratedRepetitionPenalty"


def prepare_vllm_environment() -> None:
    """Set variables that vLLM reads when it is imported. Values that are already set win."""
    # "auto" binds every CPU engine of a machine to the same core. Has no effect on GPUs.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    # A replica has many threads: its engine process must not be forked from them.
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # The V2 model runner, the default on GPUs, refuses logits processors written for V1.
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")


def _prepare_cpu_environment(settings: EngineSettings) -> None:
    """Set variables that the engine process reads when it starts."""
    # Ray sets OMP_NUM_THREADS to an actor's num_cpus, which is about scheduling, not about threads.
    num_threads = settings.num_cpu_threads or len(os.sched_getaffinity(0))
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    # When log-probabilities are first asked for, vLLM would compile a small function of the sampler: all
    # requests would wait for ten seconds.
    if settings.enforce_eager is not False:
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    # oneDNN caches compiled kernels for the last 1024 shapes. Every clip has its own shape, so the engine's
    # memory would grow for thousands of clips (docs/decisions/batch.md).
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
    if settings.tensor_parallel_size == 1:
        # Allows the "uni" executor, which saves a third process. AsyncLLM still gets its own EngineCore.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


def engine_args(checkpoint: Checkpoint, settings: EngineSettings) -> dict[str, Any]:
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    if on_cpu:
        _prepare_cpu_environment(settings)
    kv_cache_memory_bytes = settings.kv_cache_memory_bytes or (
        CPU_KV_CACHE_BYTES if on_cpu else None
    )
    args: dict[str, Any] = {
        "model": str(checkpoint.directory),
        "dtype": _stored_dtype(checkpoint) if settings.dtype == "auto" else settings.dtype,
        "max_model_len": min(settings.max_model_len, _max_positions(checkpoint)),
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "block_size": settings.block_size or (CPU_BLOCK_SIZE if on_cpu else GPU_BLOCK_SIZE),
        "kv_cache_memory_bytes": kv_cache_memory_bytes,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "enforce_eager": on_cpu if settings.enforce_eager is None else settings.enforce_eager,
        "mm_processor_cache_gb": settings.mm_processor_cache_gb,
        "enable_prefix_caching": True,
        # The checkpoint's generation_config.json must not change what a request asked for.
        "generation_config": "vllm",
        "disable_log_stats": False,
        "logits_processors": [PENALTY_CLASS],
    }
    if checkpoint.adapter is not None:
        args |= _lora_args(checkpoint.adapter)
    if on_cpu and settings.tensor_parallel_size == 1:
        args["distributed_executor_backend"] = "uni"
    return args | settings.extra_args


def lora_request(checkpoint: Checkpoint) -> Any:
    """The LoRA request for a checkpoint's adapter, for every request; None without an adapter."""
    if checkpoint.adapter is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest(ADAPTER_NAME, 1, str(checkpoint.adapter))


def stat_loggers() -> list[Any]:
    """Loggers that export vLLM's metrics to Ray, and to the registry that `Engine.current_load` reads."""
    from vllm.v1.metrics.loggers import PrometheusStatLogger
    from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

    # Each one removes vLLM's metrics from the registry when it is created, so the one that fills it is last.
    return [RayPrometheusStatLogger, PrometheusStatLogger]


def _stored_dtype(checkpoint: Checkpoint) -> str:
    """Dtype of the stored weights. vLLM's own "auto" would run float32 weights in half precision."""
    return str(_config(checkpoint).get("dtype") or "auto")


def _max_positions(checkpoint: Checkpoint) -> int:
    """Positions the LLaMA was trained for, which may be fewer than the settings allow."""
    return int(_config(checkpoint)["text_config"]["max_position_embeddings"])


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((checkpoint.directory / "config.json").read_text())
    return config


def _lora_args(adapter: Path) -> dict[str, Any]:
    rank = json.loads((adapter / "adapter_config.json").read_text())["r"]
    reserved = next((known for known in LORA_RANKS if known >= rank), None)
    if reserved is None:
        raise CheckpointError(f"{adapter} has rank {rank}; vLLM takes at most {LORA_RANKS[-1]}")
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": reserved}
