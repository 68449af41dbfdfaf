"""Asks every case, many at a time, so that the engine batches them; goes on where an earlier run stopped."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from tqdm import tqdm

from serve_app.client import Client
from serve_app.errors import ServeAppError
from serve_app.evaluation.cases import Case, Outcome
from serve_app.evaluation.store import AnswerStore

logger = logging.getLogger(__name__)

SERVICE_UNAVAILABLE = 503
RETRY_AFTER_S = (
    0.5,
    1,
    2,
    4,
    8,
    16,
)  # a replica that is being replaced is back after some ten seconds
EMOTIONS_FIELDS = ("parity", "layout", "tokenization", "features", "frame", "audio_mode")


async def run_cases(
    connect: Callable[[], AbstractAsyncContextManager[Client]],
    cases: Sequence[Case],
    store: AnswerStore,
    concurrency: int,
) -> list[Outcome]:
    """Outcomes in the order of the cases. Shows progress with rate and time left on stderr.

    Args:
        connect: opens the client; not called where the store knows every answer.
    """
    known = {number: outcome for number, case in enumerate(cases) if (outcome := store.find(case))}
    waiting = [(number, case) for number, case in enumerate(cases) if number not in known]
    if not waiting:
        return [known[number] for number in range(len(cases))]
    async with connect() as client:
        with tqdm(
            total=len(cases), initial=len(known), unit="case", mininterval=1.0, dynamic_ncols=True
        ) as progress:
            todo = iter(waiting)

            async def work() -> None:
                for number, case in todo:
                    known[number] = outcome = await _ask(client, case)
                    store.add(outcome)
                    progress.update()

            async with asyncio.TaskGroup() as group:
                for _ in range(min(concurrency, len(waiting))):
                    group.create_task(work())
    return [known[number] for number in range(len(cases))]


async def _ask(client: Client, case: Case) -> Outcome:
    for pause_s in (*RETRY_AFTER_S, None):
        try:
            return await _ask_once(client, case)
        except ServeAppError as error:
            if error.status != SERVICE_UNAVAILABLE or pause_s is None:
                return Outcome(case, error_code=error.code, error=f"{error.title}: {error.message}")
            await asyncio.sleep(pause_s)
        except Exception as error:  # whatever one case does, the others get their answers
            logger.exception("unexpected error about %s", case.id)
            return Outcome(case, error_code=ServeAppError.code, error=repr(error))
    raise AssertionError("the last try returns")


async def _ask_once(client: Client, case: Case) -> Outcome:
    body = case.body()
    answer = await client.answer(body)
    if not case.labels:
        return Outcome(case, answer["text"], provenance=answer["provenance"])
    asked = {
        name: body[name] for name in ("video_path", "question", *EMOTIONS_FIELDS) if name in body
    }
    scores = await client.score({**asked, "labels": list(case.labels)})
    return Outcome(
        case,
        answer["text"],
        {each["label"]: each["probability"] for each in scores["probabilities"]},
        scores["label_mass"],
        answer["provenance"],
    )
