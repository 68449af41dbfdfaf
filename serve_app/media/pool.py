"""Decodes clips in worker processes with a bounded queue, and survives their deaths."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

from pebble import ProcessExpired

from serve_app.errors import (
    ClipOverLimitError,
    DecodeCrashedError,
    DecoderUnavailableError,
    DecodeTimeoutError,
    InvalidRequestError,
    OverloadedError,
)
from serve_app.media import worker
from serve_app.media.clip_cache import ClipCache
from serve_app.media.context import worker_context
from serve_app.media.fetch import Fetcher
from serve_app.media.lane import Lane, OverTimeError, WorkerOptions
from serve_app.settings import MIB, MediaSettings
from serve_app.timings import ms_since
from serve_app.types import Clip, ClipSource, DecodeOptions

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DecodeCounts:
    """Clips that a pool has returned since its creation."""

    num_decoded: int
    num_hits: int  # answered from the clip cache


class DecodePool:
    """The workers that decode clips, and one that computes voice statistics. All start at once."""

    def __init__(self, settings: MediaSettings, image_size: int) -> None:
        self._settings, self._image_size = settings, image_size
        context = worker_context(worker.__name__)
        decoding = WorkerOptions(
            context, worker.start_decode_worker, (settings,), settings.max_clips_per_worker
        )
        listening = WorkerOptions(context, worker.start_voice_worker, (settings,))
        self._decoders = Lanes(settings.num_decode_workers, decoding, settings)
        self._voice = Lanes(1, listening, settings) if settings.voice else None
        self._fetcher = Fetcher(settings)
        self._cache = ClipCache(settings.clip_cache_bytes)
        self._num_decoded = self._num_hits = 0

    async def decode(self, source: ClipSource, options: DecodeOptions) -> Clip:
        """Read the source and decode it, unless the clip of exactly these bytes is still cached.

        Raises one of errors.py's classes. Cancelling it frees the worker.
        """
        if options.voice and self._voice is None:
            raise InvalidRequestError("voice is true; this server does not offer voice statistics")
        started = time.perf_counter()
        source = await self._fetcher.fetched(source)
        fetch_ms = ms_since(started)
        held = self._cache.held(options, source.features)
        read = await self._decoders.run(
            "decoding",
            self._settings.decode_timeout_s,
            worker.decode_source,
            source,
            options,
            self._settings,
            self._image_size,
            tuple(held),
        )
        if isinstance(read, worker.HeldClip):
            self._num_hits += 1
            clip = held[read.sha256]
            read_ms, decode_ms = read.read_ms, read.decode_ms
        else:
            clip = await self._with_voice(read) if options.voice else read
            self._num_decoded += 1
            read_ms, decode_ms = clip.read_ms, clip.decode_ms
        clip = replace(clip, read_ms=fetch_ms + read_ms, decode_ms=fetch_ms + decode_ms)
        self._cache.keep(clip, options)
        return clip

    def counts(self) -> DecodeCounts:
        return DecodeCounts(self._num_decoded, self._num_hits)

    async def _with_voice(self, clip: Clip) -> Clip:
        if clip.waveform is None or "voice" in clip.missing:
            return clip
        assert self._voice is not None
        started = time.perf_counter()
        statistics = await self._voice.run(
            "measuring the voice",
            self._settings.voice_timeout_s,
            worker.describe_voice,
            clip.waveform,
            self._settings,
        )
        return replace(clip, voice=statistics, decode_ms=clip.decode_ms + ms_since(started))

    def close(self) -> None:
        """Kills the workers. Returns when they are gone."""
        self._decoders.close()
        if self._voice is not None:
            self._voice.close()


class Lanes:
    """Hands each task to a free lane, and turns failures into our own errors."""

    def __init__(self, num_lanes: int, options: WorkerOptions, settings: MediaSettings) -> None:
        self._settings = settings
        self._lanes = [Lane(options) for _ in range(num_lanes)]
        self._free: asyncio.Queue[Lane] = asyncio.Queue()
        self._num_waiting = 0
        self._renewals: set[asyncio.Task[None]] = (
            set()
        )  # asyncio keeps only weak references to tasks
        for lane in self._lanes:
            self._free.put_nowait(lane)

    async def run(
        self,
        doing: str,
        timeout_s: float,
        function: Callable[P, T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """`doing` names the task in errors. `timeout_s` does not include waiting for a lane."""
        lane = await self._next_free()
        try:
            return await lane.run(timeout_s, function, *args, **kwargs)
        except OverTimeError as error:
            raise DecodeTimeoutError(
                f"{doing} was stopped at {timeout_s:.1f} s, the limit"
            ) from error
        except ProcessExpired as error:
            raise DecodeCrashedError(f"{doing} ended with {_cause(error)}") from error
        except BrokenProcessPool as error:
            raise DecoderUnavailableError(f"{doing} could not begin: {error}") from error
        except MemoryError as error:
            limit = self._settings.worker_memory_bytes // MIB
            raise ClipOverLimitError(f"{doing} needs more than {limit} MiB, the limit") from error
        finally:
            self._give_back(lane)

    def _give_back(self, lane: Lane) -> None:
        """Free the lane: at once if its worker is usable, else in the background after its replacement."""
        if not lane.spent:
            self._free.put_nowait(lane)
            return
        renewal = asyncio.create_task(self._renew(lane))
        self._renewals.add(renewal)
        renewal.add_done_callback(self._renewals.discard)

    async def _renew(self, lane: Lane) -> None:
        try:
            with contextlib.suppress(
                BrokenProcessPool
            ):  # the next task tries again and reports the failure
                await lane.renew()
        finally:
            self._free.put_nowait(lane)

    async def _next_free(self) -> Lane:
        limit = self._settings.max_queued_clips
        if self._free.empty() and self._num_waiting >= limit:
            raise OverloadedError(
                f"{self._num_waiting} clips wait to be decoded; the limit is {limit}"
            )
        self._num_waiting += 1
        try:
            return await self._free.get()
        finally:
            self._num_waiting -= 1

    def close(self) -> None:
        for lane in self._lanes:
            lane.close()


def _cause(error: ProcessExpired) -> str:
    code: int = error.exitcode
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
