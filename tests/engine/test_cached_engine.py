"""The answer cache over the real engine: it is asked no more often than necessary."""

import asyncio
import dataclasses
from typing import Any

import pytest

from serve_app.engine.cached_engine import AnswerCache, CachedEngine
from serve_app.engine.engine import Engine
from serve_app.errors import QuestionTooLongError
from serve_app.settings import MIB, AnswerCacheSettings
from serve_app.types import (
    NO_SOURCE,
    AnswerRequest,
    Clip,
    PromptOptions,
    Sampling,
    ScoreRequest,
    Turn,
    VoiceStatistics,
)

GREEDY = Sampling(temperature=0, max_tokens=6)
QUESTION = "[emotion] Which?"
LABELS = ("happy", "sad")
ASKED = AnswerRequest(NO_SOURCE, QUESTION, sampling=GREEDY)


class Counted:
    """An engine that counts its calls."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.num_asked = 0

    def __getattr__(self, name: str) -> Any:
        self.num_asked += name in ("answer", "stream", "score")
        return getattr(self._engine, name)


@pytest.fixture
def counted(engine: Engine) -> Counted:
    return Counted(engine)


@pytest.fixture
def cached(counted: Counted) -> CachedEngine:
    settings = AnswerCacheSettings(max_bytes=MIB)
    return CachedEngine(counted, settings)  # type: ignore[arg-type] # stands for an Engine


async def test_an_answer_is_given_again(
    cached: CachedEngine, counted: Counted, decoded_clips: list[Clip]
) -> None:
    voice = VoiceStatistics(0.1, -20.0, None, None, 0.0, 0, 0.0)
    first = await cached.answer(decoded_clips[0], ASKED)
    later = dataclasses.replace(decoded_clips[0], decode_ms=7.0, voice=voice)
    second = await cached.answer(later, dataclasses.replace(ASKED, request_id="another"))
    assert counted.num_asked == 1
    assert (first.cache, second.cache) == ("miss", "hit")
    assert second.text == first.text and second.token_ids == first.token_ids
    assert second.usage == first.usage and second.provenance == first.provenance
    assert second.voice == voice, "the voice is not of the answer"
    assert second.timings_ms == {"decode": 7.0, "queue": 0, "first_token": 0, "total": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"question": "[reason] Why?"},
        {"sampling": dataclasses.replace(GREEDY, max_tokens=5)},
        {"sampling": dataclasses.replace(GREEDY, constraint={"choice": ["a", "b"]})},
        {"prompt_options": PromptOptions(layout="evaluation")},
        {"prompt_options": PromptOptions(parity="reference")},
        {"history": (Turn("?", "!"),)},
        {"clip": {"content_sha256": "f" * 64}},
        {"clip": {"frame_time_s": 0.5}},
        {"clip": {"sha256": "f" * 64}},
    ],
    ids=str,
)
async def test_another_request_is_another_answer(
    cached: CachedEngine, counted: Counted, decoded_clips: list[Clip], change: dict[str, Any]
) -> None:
    clip = decoded_clips[0]
    await cached.answer(clip, ASKED)
    other = {name: value for name, value in change.items() if name != "clip"}
    changed = dataclasses.replace(clip, **change.get("clip", {}))
    answer = await cached.answer(changed, dataclasses.replace(ASKED, **other))
    assert answer.cache == "miss"
    assert counted.num_asked == 2


async def test_what_is_drawn_is_never_given_again(
    cached: CachedEngine, counted: Counted, decoded_clips: list[Clip]
) -> None:
    sampling = dataclasses.replace(GREEDY, temperature=0.5, seed=1)
    drawn = dataclasses.replace(ASKED, sampling=sampling)
    for _ in range(2):
        assert (await cached.answer(decoded_clips[0], drawn)).cache is None
        async for delta in cached.stream(decoded_clips[0], drawn):
            assert delta.cache is None
    assert counted.num_asked == 4


async def test_a_stream_is_given_again_in_one_piece(
    cached: CachedEngine, counted: Counted, decoded_clips: list[Clip]
) -> None:
    asked = dataclasses.replace(ASKED, sampling=dataclasses.replace(GREEDY, num_logprobs=1))
    left = cached.stream(decoded_clips[0], asked)
    await anext(left)
    await left.aclose()  # before its end: nothing to keep
    first = [each async for each in cached.stream(decoded_clips[0], asked)]
    (second,) = [each async for each in cached.stream(decoded_clips[0], asked)]
    assert counted.num_asked == 2
    assert {each.cache for each in first} == {"miss"} and second.cache == "hit"
    assert second.text == "".join(each.text for each in first)
    assert second.scores == tuple(score for each in first for score in each.scores)
    assert (second.usage, second.finish_reason) == (first[-1].usage, first[-1].finish_reason)


async def test_scores_are_given_again(
    cached: CachedEngine, counted: Counted, decoded_clips: list[Clip]
) -> None:
    first, second, turned = [
        await cached.score(decoded_clips[0], ScoreRequest(NO_SOURCE, QUESTION, labels))
        for labels in (LABELS, LABELS, LABELS[::-1])
    ]
    assert counted.num_asked == 2
    assert [each.cache for each in (first, second, turned)] == ["miss", "hit", "miss"]
    assert second.probabilities == first.probabilities


async def test_an_error_is_not_kept(
    cached: CachedEngine, counted: Counted, decoded_clips: list[Clip]
) -> None:
    too_long = dataclasses.replace(ASKED, question="word " * 2000)
    for _ in range(2):
        with pytest.raises(QuestionTooLongError):
            await cached.answer(decoded_clips[0], too_long)
    assert counted.num_asked == 2


async def test_bytes_and_time_are_bounded() -> None:
    cache = AnswerCache(AnswerCacheSettings(max_bytes=1000, ttl_s=0.2))
    for name in ("a", "b"):
        cache.put(name, "x" * 400)
    assert cache.get("a") is not None  # used last
    cache.put("c", "x" * 400)
    assert [cache.get(name) is None for name in ("a", "b", "c")] == [False, True, False]
    cache.put("too large", "x" * 2000)
    assert cache.get("too large") is None and cache.get("c") is not None
    await asyncio.sleep(0.3)
    assert cache.get("a") is None
