"""The answer cache: repeats answers to requests that can have no other answer. Off by default."""

import hashlib
import json
import pickle
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any

from cachetools import TTLCache

from serve_app.engine.engine import Engine
from serve_app.engine.inputs import clip_uuid
from serve_app.settings import AnswerCacheSettings
from serve_app.types import Answer, AnswerDelta, AnswerRequest, Clip, LabelScores, ScoreRequest

# Fields of a request that are not part of the key. The effect of decode_options is in the clip.
NOT_OF_THE_ANSWER = {"source", "decode_options", "request_id", "traceparent"}
NO_TIME_MS = {"queue": 0.0, "first_token": 0.0, "total": 0.0}


class CachedEngine:
    """Engine's answer, stream and score, cached. Only greedy answers and label scores are kept."""

    def __init__(self, engine: Engine, settings: AnswerCacheSettings) -> None:
        self._engine = engine
        self._answers = AnswerCache(settings)

    async def answer(self, clip: Clip, request: AnswerRequest) -> Answer:
        """See Engine.answer. Timings and voice statistics are always those of this request."""
        if request.sampling.temperature > 0:
            return await self._engine.answer(clip, request)
        key = self._key("answer", clip, request)
        found: Answer | None = self._answers.get(key)
        if found is not None:
            times = NO_TIME_MS | {"decode": clip.decode_ms}
            return replace(found, timings_ms=times, voice=clip.voice, cache="hit")
        answer = await self._engine.answer(clip, request)
        self._answers.put(key, answer)
        return replace(answer, cache="miss")

    async def stream(self, clip: Clip, request: AnswerRequest) -> AsyncGenerator[AnswerDelta, None]:
        """See Engine.stream. A cached answer is one delta; an interrupted stream is not cached."""
        key = self._key("stream", clip, request)
        is_kept = request.sampling.temperature == 0
        found: AnswerDelta | None = self._answers.get(key) if is_kept else None
        if found is not None:
            yield replace(found, cache="hit")
            return
        said: list[AnswerDelta] = []
        async with aclosing(self._engine.stream(clip, request)) as deltas:
            async for delta in deltas:
                said.append(delta)
                yield replace(delta, cache="miss") if is_kept else delta
        if is_kept:
            self._answers.put(key, _joined(said))

    async def score(self, clip: Clip, request: ScoreRequest) -> LabelScores:
        """See Engine.score."""
        key = self._key("score", clip, request)
        found: LabelScores | None = self._answers.get(key)
        if found is not None:
            times = {"decode": clip.decode_ms, "total": 0.0}
            return replace(found, timings_ms=times, voice=clip.voice, cache="hit")
        scores = await self._engine.score(clip, request)
        self._answers.put(key, scores)
        return replace(scores, cache="miss")

    def _key(self, kind: str, clip: Clip, request: AnswerRequest | ScoreRequest) -> str:
        """Hash of all that an answer depends on, with its provenance (model, layout, frame, ...)."""
        asked = {
            name: value for name, value in asdict(request).items() if name not in NOT_OF_THE_ANSWER
        }
        provenance = self._engine.provenance(clip, request.prompt_options)
        named = [kind, clip_uuid(clip), provenance, asked]
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


class AnswerCache:
    """LRU cache of values, limited in bytes, with a time to live."""

    def __init__(self, settings: AnswerCacheSettings) -> None:
        self._pickled: TTLCache[str, bytes] = TTLCache(
            settings.max_bytes, settings.ttl_s, getsizeof=len
        )

    def get(self, key: str) -> Any:
        """The value of this key, or None."""
        pickled = self._pickled.get(key)
        return None if pickled is None else pickle.loads(pickled)

    def put(self, key: str, value: Any) -> None:
        pickled = pickle.dumps(value)
        if len(pickled) <= self._pickled.maxsize:
            self._pickled[key] = pickled


def _joined(deltas: Sequence[AnswerDelta]) -> AnswerDelta:
    scores = tuple(score for delta in deltas for score in delta.scores)
    return replace(deltas[-1], text="".join(delta.text for delta in deltas), scores=scores)
