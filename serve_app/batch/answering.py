"""The engine stage: answers a unit's rows, together with those of other units. Does not depend on Ray."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from serve_app.batch.busy import EngineBusy
from serve_app.batch.records import answer_record, error_record, score_record
from serve_app.batch.rows import BusyTimes, DecodedUnit, Record, RowRequest
from serve_app.engine.engine import Engine
from serve_app.errors import EngineDeadError, ServeAppError
from serve_app.types import AnswerRequest, Clip

logger = logging.getLogger(__name__)

# Engines that may die with one row inside, as the ledger counts. For the last two it was the only suspect.
MAX_DEATHS = 3


class SuspectLedgerClient(Protocol):
    """A SuspectLedger (suspect_ledger.py) in another process."""

    async def deaths(self, numbers: Sequence[int]) -> list[int]: ...
    async def enter(self, numbers: Sequence[int]) -> None: ...
    async def leave(self, numbers: Sequence[int]) -> None: ...


@dataclass(frozen=True, slots=True)
class AnsweredUnit:
    """The records of all rows of a unit, and how busy the machines were."""

    records: tuple[Record, ...]
    busy: BusyTimes


class Answering:
    """Keeps up to `concurrency` rows in the engine, taken from all units that it is given at the same time.

    When the engine dies, `die` ends this process. Ray starts it again with the same units, and only then is
    the ledger used: rows that were inside when an engine died (suspects) are run one at a time, and a row
    that was inside during `MAX_DEATHS` deaths gets an error.
    """

    def __init__(
        self,
        engine: Engine,
        concurrency: int,
        ledger: SuspectLedgerClient | None,
        die: Callable[[], NoReturn],
    ) -> None:
        """`ledger` is None if no engine of this actor has died before."""
        self._engine, self._ledger, self._die = engine, ledger, die
        self._turns = asyncio.Semaphore(concurrency)
        self._one_suspect = asyncio.Lock()
        self._busy = EngineBusy()

    async def answer(self, unit: DecodedUnit) -> AnsweredUnit:
        pairs = [
            (clip, row_request) for clip, row_requests in unit.clips for row_request in row_requests
        ]
        if self._ledger is None:
            records = await asyncio.gather(*(self._answer(*pair) for pair in pairs))
        else:
            records = await self._answer_with_care(pairs, self._ledger)
        busy = {**unit.busy, **self._busy.read()}
        return AnsweredUnit((*unit.done, *records), busy)

    async def _answer_with_care(
        self, pairs: Sequence[tuple[Clip, RowRequest]], ledger: SuspectLedgerClient
    ) -> list[Record]:
        deaths = await ledger.deaths([row_request.number for _, row_request in pairs])
        free = [pair for pair, num_deaths in zip(pairs, deaths, strict=True) if not num_deaths]
        numbers = [row_request.number for _, row_request in free]
        await ledger.enter(numbers)
        records = await asyncio.gather(*(self._answer(*pair) for pair in free))
        await ledger.leave(numbers)
        suspects = zip(pairs, deaths, strict=True)
        return records + [
            await self._answer_suspect(clip, row_request, num_deaths, ledger)
            for (clip, row_request), num_deaths in suspects
            if num_deaths
        ]

    async def _answer_suspect(
        self, clip: Clip, row_request: RowRequest, num_deaths: int, ledger: SuspectLedgerClient
    ) -> Record:
        if num_deaths >= MAX_DEATHS:
            error = EngineDeadError(f"{num_deaths} engines died over this row")
            return error_record(
                row_request.number, row_request.id, error, row_request.chat_model is not None
            )
        async with self._one_suspect:
            await ledger.enter([row_request.number])
            record = await self._answer(clip, row_request)
            await ledger.leave([row_request.number])
        return record

    async def _answer(self, clip: Clip, row_request: RowRequest) -> Record:
        async with self._turns:
            self._busy.enter()
            try:
                return await self._call_engine(clip, row_request)
            except EngineDeadError as error:
                logger.error("the engine died: %s", error.message)
                self._die()
            except ServeAppError as error:
                return error_record(
                    row_request.number, row_request.id, error, row_request.chat_model is not None
                )
            except Exception as error:  # one row must not cost the others their answers
                logger.exception("unexpected error about row %s", row_request.id)
                unexpected = ServeAppError(f"unexpected error: {error!r}")
                return error_record(
                    row_request.number,
                    row_request.id,
                    unexpected,
                    row_request.chat_model is not None,
                )
            finally:
                self._busy.leave()

    async def _call_engine(self, clip: Clip, row_request: RowRequest) -> Record:
        if isinstance(row_request.request, AnswerRequest):
            return answer_record(row_request, await self._engine.answer(clip, row_request.request))
        scores = await self._engine.score(clip, row_request.request)
        return score_record(row_request, scores)
