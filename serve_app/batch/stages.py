"""The stages as Ray Data actors: each takes a pickled unit and returns a pickled unit."""

import logging
import os
import pickle
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import ray

from serve_app.batch.answering import AnsweredUnit, Answering
from serve_app.batch.decoding import Decoding
from serve_app.batch.loop import BackgroundLoop
from serve_app.batch.rows import DecodedUnit, Unit
from serve_app.checkpoint import read_image_size
from serve_app.engine.engine import Engine
from serve_app.lifetime import end_resource_tracker_at_exit
from serve_app.settings import AppSettings

logger = logging.getLogger(__name__)

UNIT = "unit"  # the only column; one row of Ray Data is one of our units
EXIT_ENGINE_DEAD = 70  # os.EX_SOFTWARE

DataRow = dict[str, Any]


class DecodeStage:
    """An actor with one pool of decode workers."""

    def __init__(self, settings: AppSettings) -> None:
        end_resource_tracker_at_exit()
        self._loop = BackgroundLoop()
        self._decoding = self._loop.run(self._start(settings))

    async def _start(self, settings: AppSettings) -> Decoding:
        return Decoding(settings.media, read_image_size(settings.model))

    def __call__(self, row: DataRow) -> DataRow:
        unit: Unit = pickle.loads(row[UNIT])
        return pack(self._loop.run(self._decoding.decode(unit)))


class AnswerStage:
    """An actor with one engine."""

    def __init__(self, settings: AppSettings, concurrency: int, ledger: Any) -> None:
        """`ledger` is the handle of a SuspectLedger actor."""
        end_resource_tracker_at_exit()
        self._loop = BackgroundLoop()
        self._answering = self._loop.run(self._start(settings, concurrency, ledger))

    async def _start(self, settings: AppSettings, concurrency: int, ledger: Any) -> Answering:
        # Imported here because it imports torch, which the other processes of a batch do not need.
        from serve_app.check import open_checkpoint

        engine = Engine(open_checkpoint(settings.model), settings.engine)
        again = ray.get_runtime_context().was_current_actor_reconstructed
        return Answering(engine, concurrency, RemoteSuspectLedger(ledger) if again else None, _die)

    def __call__(self, row: DataRow) -> DataRow:
        unit: DecodedUnit = pickle.loads(row[UNIT])
        return pack(self._loop.run(self._answering.answer(unit)))


class RemoteSuspectLedger:
    """Calls a SuspectLedger that is a Ray actor; a SuspectLedgerClient."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def deaths(self, numbers: Sequence[int]) -> list[int]:
        known: list[int] = await self._actor.deaths.remote(numbers)
        return known

    async def enter(self, numbers: Sequence[int]) -> None:
        await self._actor.enter.remote(numbers)

    async def leave(self, numbers: Sequence[int]) -> None:
        await self._actor.leave.remote(numbers)


def pack(unit: Unit | DecodedUnit | AnsweredUnit) -> DataRow:
    return {UNIT: pickle.dumps(unit, pickle.HIGHEST_PROTOCOL)}


def unpack(rows: Iterator[DataRow]) -> Iterator[AnsweredUnit]:
    for row in rows:
        yield pickle.loads(row[UNIT])


def _die() -> NoReturn:
    """Ends the process, so that Ray restarts the actor and its tasks. An exception would end the job."""
    os._exit(EXIT_ENGINE_DEAD)
