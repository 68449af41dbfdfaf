"""The engine: one class around vLLM's AsyncLLM. No caller imports vLLM, and the engine knows no Ray."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from serve_app.checkpoint import Checkpoint
from serve_app.engine.args import engine_args, lora_request, prepare_vllm_environment, stat_loggers
from serve_app.engine.inputs import clip_provenance, engine_prompt
from serve_app.engine.label_trie import Tokens, label_trie, normalise
from serve_app.engine.outputs import StreamTrim, answer_text, engine_timings_ms, token_scores, usage
from serve_app.engine.params import sampling_params, scoring_params
from serve_app.engine.stall import NUM_STEPS, StallWatch
from serve_app.engine.vllm_errors import vllm_errors
from serve_app.engine.vllm_gauges import KV_CACHE_USAGE, RUNNING, WAITING, gauge
from serve_app.errors import (
    EngineError,
    EngineGoneError,
    InvalidRequestError,
    QuestionTooLongError,
)
from serve_app.lifetime import own_engines
from serve_app.prompt import Prompt, encode_prompt
from serve_app.settings import EngineSettings
from serve_app.tokenizer import Tokenizer
from serve_app.types import (
    Answer,
    AnswerDelta,
    AnswerRequest,
    Clip,
    EngineLoad,
    LabelScores,
    PromptOptions,
    ScoreRequest,
    Usage,
)

logger = logging.getLogger(__name__)


class Engine:
    """One vLLM engine over one checkpoint. Create it inside a running event loop; it blocks while loading."""

    def __init__(
        self, checkpoint: Checkpoint, settings: EngineSettings, reports_to_ray: bool = False
    ) -> None:
        """`reports_to_ray`: also export vLLM's metrics through Ray; only in a Ray worker."""
        prepare_vllm_environment()
        own_engines()
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._checkpoint = checkpoint
        self._tokenizer = Tokenizer(checkpoint.directory)
        self._lora = lora_request(checkpoint)
        try:
            args = AsyncEngineArgs(**engine_args(checkpoint, settings))
            self._llm: Any = AsyncLLM.from_engine_args(
                args, stat_loggers=stat_loggers() if reports_to_ray else None
            )
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"the engine does not start: {error}") from error
        self._stall = StallWatch(settings.stall_timeout_s)
        self._max_model_len: int = self._llm.model_config.max_model_len
        self._dtype = str(self._llm.model_config.dtype).removeprefix("torch.")
        config = self._llm.model_config.hf_config
        self._num_clip_positions: int = config.num_clip_positions
        self._marker_id: int = config.video_token_index

    async def answer(self, clip: Clip, request: AnswerRequest) -> Answer:
        """Answer one question about one clip. Cancelling the caller aborts the request in the engine.

        Raises:
            QuestionTooLongError: prompt and answer do not fit the context.
            EngineError: this request failed; EngineDeadError: the engine is gone.
        """
        sampling, prompt = request.sampling, self._prompt(request)
        started = time.perf_counter()
        output = await self._run(prompt, clip, sampling_params(sampling), request.request_id)
        total_ms = (time.perf_counter() - started) * 1e3
        completion = output.outputs[0]
        return Answer(
            text=answer_text(completion, request.prompt_options, sampling.stop, self._tokenizer),
            token_ids=list(completion.token_ids),
            prompt_token_ids=list(output.prompt_token_ids),
            finish_reason=completion.finish_reason,
            usage=usage([output]),
            timings_ms=engine_timings_ms(output.metrics, total_ms) | {"decode": clip.decode_ms},
            provenance=self.provenance(clip, request.prompt_options),
            voice=clip.voice,
            scores=token_scores(completion, sampling.num_logprobs),
        )

    async def stream(self, clip: Clip, request: AnswerRequest) -> AsyncGenerator[AnswerDelta, None]:
        """Stream an answer. Its text is that of `answer` with the default parity.

        Raises:
            InvalidRequestError: with `parity: reference`, whose text is known only at the end.
            Also everything that `answer` raises.
        """
        if request.prompt_options.parity == "reference":
            raise InvalidRequestError("with parity 'reference' an answer cannot be streamed")
        sampling, prompt = request.sampling, self._prompt(request)
        params = sampling_params(sampling, is_stream=True)
        trim, num_tokens = StreamTrim(), 0
        async with aclosing(self._outputs(prompt, clip, params, request.request_id)) as outputs:
            async for output in outputs:
                completion = output.outputs[0]
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

    async def score(self, clip: Clip, request: ScoreRequest) -> LabelScores:
        """How probable each label is as the answer, by the model's own scores of its tokens.

        One short request per distinct label prefix. The first puts the prompt into the prefix cache,
        from which the others take it (docs/decisions/label-scores.md).

        Raises:
            InvalidRequestError: too few, too many, empty or equal labels.
            Also everything that `answer` raises.
        """
        options = request.prompt_options
        encoded = encode_prompt(options, request.question, self._tokenizer)
        trie = label_trie(request.labels, self._tokenizer, options.tokenization)
        self._check_length(encoded, trie.longest)

        async def run(number: int, prefix: Tokens, following: list[int]) -> Any:
            prompt = replace(encoded, after_clip=[*encoded.after_clip, *prefix])
            params = scoring_params(following)
            return await self._run(prompt, clip, params, f"{request.request_id}-{number}")

        started = time.perf_counter()
        next_tokens = trie.next_tokens_by_prefix
        numbered = [(number, *each) for number, each in enumerate(next_tokens.items())]
        outputs = [await run(*numbered[0])]
        outputs += await asyncio.gather(*(run(*each) for each in numbered[1:]))
        scored = {
            prefix: {
                token: logprob.logprob for token, logprob in output.outputs[0].logprobs[0].items()
            }
            for prefix, output in zip(next_tokens, outputs, strict=True)
        }
        probabilities, label_mass = normalise(
            {label: trie.log_probability(label, scored) for label in request.labels}
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
        EngineDeadError: the engine process is gone or hangs; this object cannot recover.
        """
        with vllm_errors():
            await self._llm.check_health()
        num_unfinished = self._llm.get_num_unfinished_requests()
        self._stall.check(num_unfinished, gauge(NUM_STEPS), time.monotonic())

    def current_load(self) -> EngineLoad:
        """How full the engine is after its last step, by vLLM's own gauges."""
        max_num_seqs = self._llm.vllm_config.scheduler_config.max_num_seqs
        # Only an engine step updates the gauges, and no step follows the abort of the last request.
        if not self._llm.get_num_unfinished_requests():
            return EngineLoad(0.0, 0.0, 0.0, max_num_seqs)
        return EngineLoad(gauge(RUNNING), gauge(WAITING), gauge(KV_CACHE_USAGE), max_num_seqs)

    async def encoder_calls(self) -> int:
        """Number of requests whose clip went through the towers since the last call, by vLLM's own count.

        Only tests call it. Needs `extra_args: {enable_mm_processor_stats: true}`.
        """
        per_worker = await self._llm.collective_rpc("get_encoder_timing_stats")
        return sum(stats["num_encoder_calls"] for stats in per_worker[0].values())

    def shutdown(self) -> None:
        """End the engine process. Safe to call twice."""
        if self._llm is not None:
            self._llm.shutdown()
        # Its finalizer fails with a traceback when it first runs at the interpreter's exit.
        self._llm = None

    def _prompt(self, request: AnswerRequest) -> Prompt:
        options, question = request.prompt_options, request.question
        encoded = encode_prompt(options, question, self._tokenizer, request.history)
        self._check_length(encoded, request.sampling.max_tokens)
        return encoded

    def _check_length(self, prompt: Prompt, max_tokens: int) -> None:
        num_prompt_tokens = prompt.num_text_tokens + self._num_clip_positions
        if num_prompt_tokens + max_tokens > self._max_model_len:
            raise QuestionTooLongError(
                f"the prompt has {num_prompt_tokens} tokens ({self._num_clip_positions} of them the "
                f"clip) and max_tokens is {max_tokens}; together at most {self._max_model_len}"
            )

    async def _run(self, prompt: Prompt, clip: Clip, params: Any, request_id: str) -> Any:
        """The finished output of one request."""
        output = None
        async for each in self._outputs(prompt, clip, params, request_id):
            output = each
        assert output is not None, "a finished request has a final output"
        return output

    async def _outputs(
        self, prompt: Prompt, clip: Clip, params: Any, request_id: str
    ) -> AsyncGenerator[Any, None]:
        """vLLM's outputs of one request, retried once if the engine had lost its clip.

        vLLM's frontend may believe that the engine still holds a clip which it has evicted. The error that
        comes in place of the first output corrects that (docs/decisions/towers-inside-vllm.md).
        """
        inputs = engine_prompt(prompt, clip, self._marker_id)
        name = _engine_id(request_id)
        for attempt in (name, f"{name}-again"):
            has_begun = has_failed = False
            async with aclosing(self._attempt(inputs, params, attempt)) as outputs:
                async for output in outputs:
                    has_failed = output.outputs[0].finish_reason == "error"
                    if not has_failed:
                        has_begun = True
                        yield output
            if not has_failed:
                return
            if has_begun:  # text that was already streamed cannot be taken back
                raise EngineError("the engine reported an error in the middle of an answer")
            logger.warning("request %s: the engine reported an error before any output", attempt)
        raise EngineError("the engine reported an error for this request twice")

    async def _attempt(
        self, inputs: dict[str, Any], params: Any, request_id: str
    ) -> AsyncGenerator[Any, None]:
        """vLLM's outputs, one with finish reason "error" included, and its exceptions as ours."""
        if self._llm.errored:
            raise EngineGoneError("the engine was dead before this request came")
        try:
            with vllm_errors():
                async for output in self._llm.generate(
                    inputs, params, request_id, lora_request=self._lora
                ):
                    yield output
        except (asyncio.CancelledError, GeneratorExit):
            if self._llm is not None:  # None: shut down, and the request with it
                await self._llm.abort(request_id)
            raise

    def provenance(self, clip: Clip, options: PromptOptions) -> dict[str, Any]:
        """Provenance of an answer about this clip, as JSON values."""
        return {
            "model_sha256": self._checkpoint.sha256,
            "dtype": self._dtype,
            "prompt_layout": options.layout,
            "tokenization": options.tokenization,
            "parity": options.parity,
            **clip_provenance(clip),
        }


def _engine_id(request_id: str) -> str:
    """A unique id for the engine: clients may send the same id for several requests at once."""
    return f"{request_id}-{uuid.uuid4().hex[:12]}"
