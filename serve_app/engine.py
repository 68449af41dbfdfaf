"""The engine seam: one class around vLLM's AsyncLLM. Nothing above it imports vLLM; it knows no Ray."""

import asyncio
import logging
import time
import uuid
from typing import Any

from serve_app.checkpoint import Checkpoint
from serve_app.engine_args import engine_args, prepare_environment
from serve_app.errors import EngineDeadError, EngineError, InvalidRequestError, QuestionTooLongError
from serve_app.lifetime import own_engines
from serve_app.prompt import CHAT, Mark, PromptLayout, encode_prompt
from serve_app.settings import EngineSettings
from serve_app.types import Answer, Clip, Sampling, Usage

logger = logging.getLogger(__name__)

MODALITY = "video"
CLIP_FIELDS = ("frame", "waveform", "face_feature", "temporal_feature")


class Engine:
    """One vLLM engine over one checkpoint. Create it inside a running event loop; it blocks while loading."""

    def __init__(self, checkpoint: Checkpoint, settings: EngineSettings) -> None:
        prepare_environment()
        own_engines()
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._checkpoint = checkpoint
        self._max_model_len = settings.max_model_len
        args = AsyncEngineArgs(**engine_args(checkpoint, settings))
        self._llm: Any = AsyncLLM.from_engine_args(args)
        config = self._llm.model_config.hf_config
        self._num_clip_positions: int = config.num_clip_positions
        self._mark_ids = {
            Mark.BOS: config.text_config.bos_token_id,
            Mark.CLIP: config.video_token_index,
        }
        self._tokenizer = self._llm.get_tokenizer()

    async def answer(
        self,
        clip: Clip,
        question: str,
        sampling: Sampling,
        request_id: str | None = None,
        layout: PromptLayout = CHAT,
    ) -> Answer:
        """Answer one question about one clip. Cancelling the caller aborts the request in the engine.

        Raises:
            QuestionTooLongError: prompt and answer do not fit the context.
            EngineError: this request failed; EngineDeadError: the engine is gone.
        """
        prompt_ids = self._encode(question, layout)
        self._check_length(len(prompt_ids), sampling.max_tokens)
        request_id = request_id or uuid.uuid4().hex
        fields = clip_fields(clip)
        prompt = {
            "prompt_token_ids": prompt_ids,
            "multi_modal_data": {MODALITY: fields},
            # Saves vLLM from hashing the arrays; names everything they were made from.
            "multi_modal_uuids": {MODALITY: [clip_uuid(clip)]},
        }
        started = time.perf_counter()
        output = await self._generate(prompt, sampling, request_id)
        if output.outputs[0].finish_reason == "error":
            # vLLM's sender thought the engine still held this clip; it forgets that now (docs/decisions).
            logger.warning("engine had lost a cached clip, sending it again")
            output = await self._generate(prompt, sampling, f"{request_id}-again")
        total_ms = (time.perf_counter() - started) * 1e3
        completion = output.outputs[0]
        if completion.finish_reason == "error":
            raise EngineError("the engine reported an error for this request twice")
        return Answer(
            text=completion.text.strip(),
            token_ids=list(completion.token_ids),
            prompt_token_ids=list(output.prompt_token_ids),
            finish_reason=completion.finish_reason,
            usage=Usage(
                prompt_tokens=len(output.prompt_token_ids),
                completion_tokens=len(completion.token_ids),
                cached_tokens=output.num_cached_tokens or 0,
            ),
            timings_ms=_engine_timings_ms(output.metrics, total_ms) | {"decode": clip.decode_ms},
            provenance=self._provenance(clip, layout),
            voice=clip.voice,
        )

    async def check_health(self) -> None:
        """Raises:
        EngineDeadError: the engine process is gone; this object cannot recover.
        """
        from vllm.v1.engine.exceptions import EngineDeadError as VllmEngineDeadError

        try:
            await self._llm.check_health()
        except VllmEngineDeadError as error:
            raise EngineDeadError(str(error)) from error

    def num_running(self) -> int:
        """Requests in the engine's batch after its last step, by vLLM's own gauge."""
        from prometheus_client import REGISTRY

        samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
        return int(sum(s.value for s in samples if s.name == "vllm:num_requests_running"))

    async def encoder_calls(self) -> int:
        """Requests whose clip went through the towers since the last call, by vLLM's own count.

        Needs `extra_args: {enable_mm_processor_stats: true}`.
        """
        per_worker = await self._llm.collective_rpc("get_encoder_timing_stats")
        return sum(stats["num_encoder_calls"] for stats in per_worker[0].values())

    def shutdown(self) -> None:
        """End the engine process. Safe to call twice."""
        if self._llm is not None:
            self._llm.shutdown()
        # Its finalizer fails with a traceback when it first runs at the interpreter's exit.
        self._llm = None

    def _encode(self, question: str, layout: PromptLayout) -> list[int]:
        def encode_text(text: str) -> list[int]:
            encoding = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)
            return list(encoding["input_ids"])

        return encode_prompt(layout, question, encode_text, self._mark_ids)

    def _check_length(self, num_prompt_ids: int, max_tokens: int) -> None:
        num_prompt_tokens = num_prompt_ids - 1 + self._num_clip_positions
        if num_prompt_tokens + max_tokens > self._max_model_len:
            raise QuestionTooLongError(
                f"the prompt has {num_prompt_tokens} tokens ({self._num_clip_positions} of them the "
                f"clip) and max_tokens is {max_tokens}; together at most {self._max_model_len}"
            )

    async def _generate(self, prompt: dict[str, Any], sampling: Sampling, request_id: str) -> Any:
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind
        from vllm.v1.engine.exceptions import EngineDeadError as VllmEngineDeadError
        from vllm.v1.engine.exceptions import EngineGenerateError

        final = None
        try:
            params = SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=sampling.max_tokens,
                seed=sampling.seed,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            async for output in self._llm.generate(prompt, params, request_id):
                final = output
        except asyncio.CancelledError:
            await self._llm.abort(request_id)
            raise
        except (VLLMClientError, ValueError) as error:
            raise InvalidRequestError(str(error)) from error
        except VllmEngineDeadError as error:
            raise EngineDeadError(str(error)) from error
        except EngineGenerateError as error:
            # Its own text is empty; the reason is in the cause.
            if isinstance(error.__cause__, ValueError):
                raise InvalidRequestError(str(error.__cause__)) from error
            raise EngineError(f"the engine failed: {error.__cause__!r}") from error
        assert final is not None, "a finished request has a final output"
        return final

    def _provenance(self, clip: Clip, layout: PromptLayout) -> dict[str, Any]:
        fields = clip_fields(clip)
        return {
            "model_sha256": self._checkpoint.sha256,
            "prompt_layout": layout.name,
            "clip_sha256": clip.sha256,
            "frame_time_s": clip.frame_time_s,
            "audio_span_s": clip.audio_span_s,
            "missing": list(clip.missing),
            "zeroed": [name for name in CLIP_FIELDS if name not in fields],
            "notes": list(clip.notes),
        }


def clip_fields(clip: Clip) -> dict[str, Any]:
    """The clip dict of serve_app/model/processing.py. What is left out, the plugin feeds as zeros."""
    fields = {"frame": clip.frame, "waveform": clip.waveform}
    return {name: value for name, value in fields.items() if value is not None}


def clip_uuid(clip: Clip) -> str:
    """Names the tensors of a clip for vLLM's caches: its file, and what decoding made of it.

    The time of the frame would not do: two decoders may differ about the pixels of one time.
    """
    assert clip.content_sha256, "a clip without the digest of its content would be mixed up"
    return f"{clip.sha256}-{clip.content_sha256}"


def _engine_timings_ms(metrics: Any, total_ms: float) -> dict[str, float]:
    """Engine stages of one request: waiting to be scheduled, first token, all tokens."""
    return {
        "queue": (metrics.scheduled_ts - metrics.queued_ts) * 1e3,
        "first_token": metrics.first_token_latency * 1e3,
        "total": total_ms,
    }
