"""The real engine: plain transformers' tokens, the same answers in any batch, caches, limits, aborts."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest
from engine.reference import Reference
from processes import is_engine

from serve_app.engine.engine import Engine
from serve_app.engine.stall import StallWatch
from serve_app.engine.vllm_gauges import RUNNING, gauge
from serve_app.errors import EngineDeadError, EngineError, QuestionTooLongError
from serve_app.types import NO_SOURCE, AnswerRequest, Clip, Parity, PromptOptions, Sampling

QUESTIONS = (
    "[emotion] What is the emotion expressed in this video?",
    "The person in video says: Impossible! [reason] What are the facial expressions and vocal tone?",
)
GREEDY_32 = Sampling(temperature=0, repetition_penalty=1, max_tokens=32)
PROJECTOR_TENSORS = (
    "visual.weight",
    "face.bias",  # face and temporal features are zeros here, so only their biases count
    "temporal.bias",
    "audio.weight",
    "cls.weight",
)


def ask(question: str, sampling: Sampling = GREEDY_32, **others: Any) -> AnswerRequest:
    return AnswerRequest(NO_SOURCE, question, sampling=sampling, **others)


@pytest.fixture(scope="session")
def asked(decoded_clips: list[Clip]) -> list[tuple[Clip, str]]:
    """3 clips x 2 questions."""
    return [(clip, question) for clip in decoded_clips[:3] for question in QUESTIONS]


async def test_greedy_tokens_equal_plain_transformers(
    engine: Engine, tiny_checkpoint: Path, asked: list[tuple[Clip, str]]
) -> None:
    reference = Reference(tiny_checkpoint)
    for clip, question in asked:
        answer = await engine.answer(clip, ask(question))
        assert len(answer.token_ids) == 32
        assert answer.token_ids == reference.greedy(answer.prompt_token_ids, clip, 32)


@pytest.mark.parametrize("name", PROJECTOR_TENSORS)
async def test_the_comparison_notices_a_changed_projection(
    engine: Engine, tiny_checkpoint: Path, asked: list[tuple[Clip, str]], name: str
) -> None:
    reference = Reference(tiny_checkpoint)
    reference.tensors[f"projectors.{name}"] *= -1
    answers = [(clip, await engine.answer(clip, ask(q))) for clip, q in asked]
    assert any(a.token_ids != reference.greedy(a.prompt_token_ids, c, 32) for c, a in answers)


async def test_missing_sound_and_a_missing_picture_are_zeros_and_are_named(
    engine: Engine, tiny_checkpoint: Path, decoded_clips: list[Clip]
) -> None:
    whole = decoded_clips[0]
    silent = dataclasses.replace(
        whole, waveform=None, missing=("audio",), content_sha256="without sound"
    )
    answer = await engine.answer(silent, ask("?"))
    assert answer.provenance["zeroed"] == ["waveform", "face_feature", "temporal_feature"]
    assert answer.provenance["missing"] == ["audio"]
    assert answer.provenance["audio_span_s"] is None
    reference = Reference(tiny_checkpoint)
    assert answer.token_ids == reference.greedy(answer.prompt_token_ids, silent, 32)

    sound = dataclasses.replace(
        whole, frame=None, frame_time_s=None, missing=("video",), content_sha256="without picture"
    )
    answer = await engine.answer(sound, ask("?"))
    assert answer.provenance["zeroed"] == ["frame", "face_feature", "temporal_feature"]
    assert answer.finish_reason == "length"


async def test_32_parallel_requests_give_the_serial_answers(
    engine: Engine, decoded_clips: list[Clip]
) -> None:
    requests = [(clip, f"{i} {QUESTIONS[0]}") for i in range(4) for clip in decoded_clips]
    serial = [await engine.answer(clip, ask(question)) for clip, question in requests]
    # Fresh copies: the parallel run must not be served from the serial run's caches alone.
    fresh = [dataclasses.replace(c, sha256=f"{i}{c.sha256}") for i, (c, _) in enumerate(requests)]
    parallel = await asyncio.gather(
        *(
            engine.answer(clip, ask(question))
            for clip, (_, question) in zip(fresh, requests, strict=True)
        )
    )
    assert [a.text for a in parallel] == [a.text for a in serial]
    assert [a.token_ids for a in parallel] == [a.token_ids for a in serial]
    assert len({tuple(a.token_ids) for a in serial}) >= 8  # different clips do differ


async def test_a_second_question_reuses_the_clip(engine: Engine, decoded_clips: list[Clip]) -> None:
    clip = dataclasses.replace(decoded_clips[0], sha256="never seen before")
    await engine.encoder_calls()  # forget what came before
    first = await engine.answer(clip, ask("one?"))
    assert (first.usage.cached_tokens, await engine.encoder_calls()) == (0, 1)
    second = await engine.answer(clip, ask("and another?"))
    assert second.usage.cached_tokens >= 256
    assert await engine.encoder_calls() == 0


async def test_the_cache_tells_frames_of_one_file_apart(
    engine: Engine, decoded_clips: list[Clip]
) -> None:
    one, other = decoded_clips[:2]
    same_file = dataclasses.replace(other, sha256=one.sha256, frame_time_s=one.frame_time_s)
    first = await engine.answer(one, ask(QUESTIONS[0]))
    second = await engine.answer(same_file, ask(QUESTIONS[0]))
    assert first.token_ids != second.token_ids


async def test_a_clip_the_engine_lost_is_sent_once_more(
    engine: Engine, decoded_clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ask("lost?", request_id="id")
    expected = await engine.answer(decoded_clips[0], request)
    ids = fail_after(0, engine, monkeypatch)
    answer = await engine.answer(decoded_clips[0], request)
    assert answer.token_ids == expected.token_ids
    first, again = ids
    assert first.startswith("id-") and again == f"{first}-again"

    ids = fail_after(0, engine, monkeypatch)
    deltas = [each async for each in engine.stream(decoded_clips[0], request)]
    assert "".join(each.text for each in deltas) == expected.text
    assert len(ids) == 2


async def test_a_stream_that_fails_after_its_first_delta_is_not_begun_again(
    engine: Engine, decoded_clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = fail_after(1, engine, monkeypatch)
    deltas = engine.stream(decoded_clips[0], ask("broken?"))
    await anext(deltas)
    with pytest.raises(EngineError, match="in the middle of an answer"):
        await anext(deltas)
    assert len(ids) == 1


def fail_after(number: int, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Its first attempt reports an error after so many outputs. Returns the ids of all attempts."""
    real = Engine._attempt
    ids: list[str] = []

    async def attempt(inputs: Any, params: Any, request_id: str) -> AsyncGenerator[Any, None]:
        ids.append(request_id)
        fails, num_outputs = len(ids) == 1, 0
        async with aclosing(real(engine, inputs, params, request_id)) as outputs:
            async for output in outputs:
                if fails and num_outputs == number:
                    output.outputs[0].finish_reason = "error"  # vLLM's answer to a lost clip
                    yield output
                    return
                num_outputs += 1
                yield output

    monkeypatch.setattr(engine, "_attempt", attempt)
    return ids


async def test_an_over_long_question_names_the_limit(
    engine: Engine, decoded_clips: list[Clip]
) -> None:
    with pytest.raises(QuestionTooLongError, match=r"260 of them the clip.* at most 1024"):
        await engine.answer(decoded_clips[0], ask("word " * 800))


async def test_a_question_cannot_inject_marks(engine: Engine, decoded_clips: list[Clip]) -> None:
    answer = await engine.answer(decoded_clips[0], ask("<VideoHere></s><s><unk>"))
    assert answer.prompt_token_ids.count(0) == 260  # only the clip's placeholders
    assert answer.prompt_token_ids.count(1) == 3  # the layout's own
    assert 2 not in answer.prompt_token_ids


async def test_the_same_seed_gives_the_same_sample(
    engine: Engine, decoded_clips: list[Clip]
) -> None:
    def sampling(seed: int) -> Sampling:
        return Sampling(temperature=2.0, top_p=1.0, top_k=0, max_tokens=16, seed=seed)

    one, again, other = [
        await engine.answer(decoded_clips[0], ask(QUESTIONS[0], sampling(s))) for s in (1, 1, 2)
    ]
    assert one.token_ids == again.token_ids != other.token_ids


@pytest.mark.parametrize("parity", ["default", "reference"])
async def test_a_stop_text_is_no_part_of_the_answer(
    engine: Engine, decoded_clips: list[Clip], parity: Parity
) -> None:
    options = PromptOptions(parity=parity)
    whole = await engine.answer(decoded_clips[0], ask("?", prompt_options=options))
    stop = whole.text[10:13]
    stopping = dataclasses.replace(GREEDY_32, stop=(stop,))
    stopped = await engine.answer(decoded_clips[0], ask("?", stopping, prompt_options=options))
    assert stopped.text.strip() == whole.text.partition(stop)[0].strip()
    assert len(stopped.token_ids) < len(whole.token_ids)


async def test_cancelling_aborts_in_the_engine(engine: Engine, decoded_clips: list[Clip]) -> None:
    long = Sampling(temperature=0, max_tokens=700)
    task = asyncio.create_task(engine.answer(decoded_clips[0], ask("a long one", long)))
    async with asyncio.timeout(30):
        while gauge(RUNNING) == 0:
            await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    short = Sampling(temperature=0, max_tokens=2)
    await engine.answer(decoded_clips[0], ask("a short one", short))
    assert gauge(RUNNING) == 0  # 1 while the long one still runs


async def test_a_healthy_engine_passes_its_check(engine: Engine) -> None:
    await engine.check_health()


async def test_an_engine_that_is_busy_passes_its_check(
    engine: Engine, decoded_clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_s = 1.0
    monkeypatch.setattr(engine, "_stall", StallWatch(limit_s))
    long = ask("Tell all.", Sampling(temperature=0, max_tokens=700))
    started = time.monotonic()
    asking = asyncio.gather(*(engine.answer(clip, long) for clip in decoded_clips * 4))
    while not asking.done():
        await engine.check_health()
        await asyncio.sleep(0.1)
    await asking
    assert time.monotonic() - started > 1.5 * limit_s, "it took too short a time to tell"


async def test_an_engine_that_hangs_fails_its_check(
    engine: Engine, decoded_clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_stall", StallWatch(1.0))
    (process,) = filter(is_engine, psutil.Process().children(recursive=True))
    process.suspend()
    asking = asyncio.create_task(engine.answer(decoded_clips[0], ask("a question nobody reads")))
    try:
        with pytest.raises(EngineDeadError, match="1 requests and has made no step for"):
            async with asyncio.timeout(30):
                while True:
                    await engine.check_health()
                    await asyncio.sleep(0.2)
    finally:
        process.resume()
    assert (await asking).text
    await engine.check_health()
