"""The engine seam: one class around vLLM's AsyncLLM. Nothing above it imports vLLM; it knows no Ray."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from serve_app.checkpoint import Checkpoint
from serve_app.engine_args import engine_args, prepare_vllm_environment, stat_loggers
from serve_app.engine_outputs import StreamTrim, engine_timings_ms, token_scores, usage
from serve_app.engine_params import sampling_params, scoring_params
from serve_app.errors import (
    EngineDeadError,
    EngineError,
    EngineGoneError,
    InvalidRequestError,
    QuestionTooLongError,
)
from serve_app.label_tree import Tokens, label_tree, share_out
from serve_app.lifetime import own_engines
from serve_app.model.arguments import BEFORE_FEATURES, MODALITY
from serve_app.prompt import LAYOUTS, Prompt, encode_prompt
from serve_app.settings import EngineSettings
from serve_app.tokenizer import Tokenizer
from serve_app.types import (
    Answer,
    AnswerDelta,
    Clip,
    EngineLoad,
    LabelScores,
    PromptOptions,
    Sampling,
    Turn,
    Usage,
)

logger = logging.getLogger(__name__)

CLIP_FIELDS = ("frame", "waveform", "face_feature", "temporal_feature")
ADAPTER_NAME = "emotion-llama"
DEFAULT_PROMPT = PromptOptions()

# vLLM's names. The last one is a share, not a percentage.
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
KV_CACHE_USAGE = "vllm:kv_cache_usage_perc"


class Engine:
    """One vLLM engine over one checkpoint. Create it inside a running event loop; it blocks while loading."""

    def __init__(
        self, checkpoint: Checkpoint, settings: EngineSettings, reports_to_ray: bool = False
    ) -> None:
        """`reports_to_ray`: vLLM's metrics also come out of Ray's endpoint; in a process of Ray's."""
        prepare_vllm_environment()
        own_engines()
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._checkpoint = checkpoint
        self._tokenizer = Tokenizer(checkpoint.directory)
        self._lora = _lora_request(checkpoint)
        try:
            args = AsyncEngineArgs(**engine_args(checkpoint, settings))
            self._llm: Any = AsyncLLM.from_engine_args(
                args, stat_loggers=stat_loggers() if reports_to_ray else None
            )
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"the engine does not start: {error}") from error
        self._max_model_len: int = self._llm.model_config.max_model_len
        self._dtype = str(self._llm.model_config.dtype).removeprefix("torch.")
        config = self._llm.model_config.hf_config
        self._num_clip_positions: int = config.num_clip_positions
        self._marker_id: int = config.video_token_index

    async def answer(
        self,
        clip: Clip,
        question: str,
        sampling: Sampling,
        request_id: str | None = None,
        options: PromptOptions = DEFAULT_PROMPT,
        history: Sequence[Turn] = (),
    ) -> Answer:
        """Answer one question about one clip. Cancelling the caller aborts the request in the engine.

        Raises:
            QuestionTooLongError: prompt and answer do not fit the context.
            EngineError: this request failed; EngineDeadError: the engine is gone.
        """
        encoded = encode_prompt(options, question, self._tokenizer, history)
        self._check_length(encoded, sampling.max_tokens)
        started = time.perf_counter()
        output = await self._run(self._prompt(encoded, clip), sampling_params(sampling), request_id)
        total_ms = (time.perf_counter() - started) * 1e3
        completion = output.outputs[0]
        return Answer(
            text=self._text(completion, options, sampling.stop),
            token_ids=list(completion.token_ids),
            prompt_token_ids=list(output.prompt_token_ids),
            finish_reason=completion.finish_reason,
            usage=usage([output]),
            timings_ms=engine_timings_ms(output.metrics, total_ms) | {"decode": clip.decode_ms},
            provenance=self.provenance(clip, options),
            voice=clip.voice,
            scores=token_scores(completion, sampling.num_logprobs),
        )

    async def stream(
        self,
        clip: Clip,
        question: str,
        sampling: Sampling,
        request_id: str | None = None,
        options: PromptOptions = DEFAULT_PROMPT,
        history: Sequence[Turn] = (),
    ) -> AsyncGenerator[AnswerDelta, None]:
        """The answer as it grows: its text is that of `answer` with the default parity.

        Raises:
            InvalidRequestError: with `parity: reference` the text is only known at the end. And what
                `answer` raises, all but a lost engine before the first delta.
        """
        if options.parity == "reference":
            raise InvalidRequestError("with parity 'reference' an answer cannot be streamed")
        encoded = encode_prompt(options, question, self._tokenizer, history)
        self._check_length(encoded, sampling.max_tokens)
        prompt, params = self._prompt(encoded, clip), sampling_params(sampling, is_stream=True)
        name = _engine_id(request_id)
        trim, num_tokens = StreamTrim(), 0
        for attempt in (name, f"{name}-again"):
            async with aclosing(self._outputs(prompt, params, attempt)) as outputs:
                async for output in outputs:
                    completion = output.outputs[0]
                    if completion.finish_reason == "error":
                        break  # as in _run: the engine had lost the clip
                    num_tokens += len(completion.token_ids)
                    counts = Usage(
                        len(output.prompt_token_ids), num_tokens, output.num_cached_tokens or 0
                    )
                    yield AnswerDelta(
                        text=trim(completion.text),
                        finish_reason=completion.finish_reason,
                        usage=counts if completion.finish_reason else None,
                        scores=token_scores(completion, sampling.num_logprobs),
                    )
                else:
                    return
            if num_tokens:
                break  # what was said cannot be said again
        raise EngineError("the engine reported an error for this request twice")

    async def score(
        self,
        clip: Clip,
        question: str,
        labels: Sequence[str],
        request_id: str | None = None,
        options: PromptOptions = DEFAULT_PROMPT,
    ) -> LabelScores:
        """How probable each label is as the answer, by the model's own scores of its tokens.

        One short request for each beginning of a label, shared ones once. The first brings the prompt
        into the prefix cache, from which the others take it (docs/decisions/label-scores.md).

        Raises:
            InvalidRequestError: too few, too many, empty or equal labels. And what `answer` raises.
        """
        encoded = encode_prompt(options, question, self._tokenizer)
        tree = label_tree(labels, self._tokenizer, options.tokenization)
        self._check_length(encoded, tree.longest)

        async def run(number: int, beginning: Tokens, following: list[int]) -> Any:
            prompt = replace(encoded, after_clip=[*encoded.after_clip, *beginning])
            params = scoring_params(following)
            return await self._run(self._prompt(prompt, clip), params, f"{request_id}-{number}")

        started = time.perf_counter()
        branches = tree.branches
        numbered = [(number, *branch) for number, branch in enumerate(branches.items())]
        outputs = [await run(*numbered[0])]
        outputs += await asyncio.gather(*(run(*each) for each in numbered[1:]))
        scored = {
            beginning: {
                token: logprob.logprob for token, logprob in output.outputs[0].logprobs[0].items()
            }
            for beginning, output in zip(branches, outputs, strict=True)
        }
        probabilities, label_mass = share_out(
            {label: tree.log_probability(label, scored) for label in labels}
        )
        total_ms = (time.perf_counter() - started) * 1e3
        return LabelScores(
            probabilities=probabilities,
            label_mass=label_mass,
            usage=usage(outputs),
            timings_ms={"decode": clip.decode_ms, "total": total_ms},
            provenance=self.provenance(clip, options),
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
        return int(_gauge(RUNNING))

    def load(self) -> EngineLoad:
        """How full the engine is after its last step, by vLLM's own gauges."""
        max_num_seqs = self._llm.vllm_config.scheduler_config.max_num_seqs
        # Steps set the gauges, and none follows the abort of the last request.
        if not self._llm.get_num_unfinished_requests():
            return EngineLoad(0.0, 0.0, 0.0, max_num_seqs)
        return EngineLoad(_gauge(RUNNING), _gauge(WAITING), _gauge(KV_CACHE_USAGE), max_num_seqs)

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

    def _prompt(self, encoded: Prompt, clip: Clip) -> dict[str, Any]:
        prompt = {
            "prompt_token_ids": [*encoded.before_clip, self._marker_id, *encoded.after_clip],
            "multi_modal_data": {MODALITY: clip_fields(clip)},
        }
        name = clip_uuid(clip)
        if encoded.before_features is not None:
            # These ids become part of the item that vLLM caches under its name.
            prompt["mm_processor_kwargs"] = {BEFORE_FEATURES: encoded.before_features}
            name += f"-{encoded.before_features}"
        # Saves vLLM from hashing the arrays; names everything they were made from.
        return prompt | {"multi_modal_uuids": {MODALITY: [name]}}

    def _text(self, completion: Any, options: PromptOptions, stop: Sequence[str]) -> str:
        if options.parity != "reference":
            return str(completion.text).strip()
        text = LAYOUTS[options.layout].trim(self._tokenizer.decode(completion.token_ids))
        for each in stop:  # which vLLM leaves out of its own text alone
            text = text.partition(each)[0]
        return text

    def _check_length(self, prompt: Prompt, max_tokens: int) -> None:
        num_text_tokens = (
            len(prompt.before_clip) + len(prompt.before_features or ()) + len(prompt.after_clip)
        )
        num_prompt_tokens = num_text_tokens + self._num_clip_positions
        if num_prompt_tokens + max_tokens > self._max_model_len:
            raise QuestionTooLongError(
                f"the prompt has {num_prompt_tokens} tokens ({self._num_clip_positions} of them the "
                f"clip) and max_tokens is {max_tokens}; together at most {self._max_model_len}"
            )

    async def _run(self, prompt: dict[str, Any], params: Any, request_id: str | None) -> Any:
        """The finished output of one request; a second try where the engine had lost its clip."""
        request_id = _engine_id(request_id)
        output = await self._generate(prompt, params, request_id)
        if output.outputs[0].finish_reason == "error":
            # vLLM's sender thought the engine still held this clip; it forgets that now (docs/decisions).
            logger.warning("engine had lost a cached clip, sending it again")
            output = await self._generate(prompt, params, f"{request_id}-again")
        if output.outputs[0].finish_reason == "error":
            raise EngineError("the engine reported an error for this request twice")
        return output

    async def _generate(self, prompt: dict[str, Any], params: Any, request_id: str) -> Any:
        final = None
        async for output in self._outputs(prompt, params, request_id):
            final = output
        assert final is not None, "a finished request has a final output"
        return final

    async def _outputs(
        self, prompt: dict[str, Any], params: Any, request_id: str
    ) -> AsyncGenerator[Any, None]:
        """vLLM's outputs of one request, and its errors as ours."""
        from vllm.exceptions import VLLMClientError
        from vllm.v1.engine.exceptions import EngineDeadError as VllmEngineDeadError
        from vllm.v1.engine.exceptions import EngineGenerateError

        if self._llm.errored:
            raise EngineGoneError("the engine was dead before this request came")
        try:
            async for output in self._llm.generate(
                prompt, params, request_id, lora_request=self._lora
            ):
                yield output
        except (asyncio.CancelledError, GeneratorExit):
            if self._llm is not None:  # else the engine is gone, and the request with it
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

    def provenance(self, clip: Clip, options: PromptOptions) -> dict[str, Any]:
        """What an answer about this clip comes from. JSON."""
        fields = clip_fields(clip)
        return {
            "model_sha256": self._checkpoint.sha256,
            "dtype": self._dtype,
            "prompt_layout": options.layout,
            "tokenization": options.tokenization,
            "parity": options.parity,
            "audio_mode": clip.audio_mode,
            "clip_sha256": clip.sha256,
            "frame_time_s": clip.frame_time_s,
            "audio_span_s": clip.audio_span_s,
            "missing": list(clip.missing),
            "features": sorted(clip.features),
            "zeroed": _zeroed(fields),
            "notes": list(clip.notes),
        }


def _engine_id(request_id: str | None) -> str:
    """A client may use an id twice at a time; the engine may not."""
    return f"{request_id or 'request'}-{uuid.uuid4().hex[:12]}"


def _gauge(name: str) -> float:
    """The value of one of vLLM's gauges: this process has one engine."""
    from prometheus_client import REGISTRY

    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
    return float(sum(sample.value for sample in samples if sample.name == name))


def clip_fields(clip: Clip) -> dict[str, Any]:
    """The clip dict of serve_app/model/processing.py. What is left out, the plugin feeds as zeros."""
    # A ready audio feature stands for the waveform it was made from.
    waveform = None if "audio_feature" in clip.features else clip.waveform
    fields = {"frame": clip.frame, "waveform": waveform, **clip.features}
    return {name: value for name, value in fields.items() if value is not None}


def _zeroed(fields: dict[str, Any]) -> list[str]:
    given = {*fields, *(["waveform"] if "audio_feature" in fields else [])}
    return [name for name in CLIP_FIELDS if name not in given]


def _lora_request(checkpoint: Checkpoint) -> Any:
    if checkpoint.adapter is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest(ADAPTER_NAME, 1, str(checkpoint.adapter))


def clip_uuid(clip: Clip) -> str:
    """Names the tensors of a clip for vLLM's caches: its file, and what decoding made of it.

    The time of the frame would not do: two decoders may differ about the pixels of one time.
    """
    assert clip.content_sha256, "a clip without the digest of its content would be mixed up"
    return f"{clip.sha256}-{clip.content_sha256}"
