"""Runs all cases, many at a time so that the engine batches them; continues where an earlier run stopped."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from tqdm import tqdm

from serve_app.client import Client
from serve_app.errors import EngineDeadError, NotReadyError, RequestError, ServeAppError
from serve_app.evaluation.cases import Case, Outcome
from serve_app.evaluation.store import AnswerStore

logger = logging.getLogger(__name__)

SERVICE_UNAVAILABLE = 503
# A replica that is being replaced is back within half a minute.
RETRY_AFTER_S = (0.5, 1, 2, 4, 8, 16)
# Nothing answers any more: every other case would wait as long and fail too.
ENDS_THE_RUN = (NotReadyError, EngineDeadError)
EMOTIONS_FIELDS = ("parity", "layout", "tokenization", "features", "frame", "audio_mode")


async def run_cases(
    connect: Callable[[], AbstractAsyncContextManager[Client]],
    cases: Sequence[Case],
    store: AnswerStore,
    concurrency: int,
) -> list[Outcome]:
    """Returns outcomes in the order of the cases. Shows progress with rate and time left on stderr.

    Args:
        connect: opens the client; not called if the store has every answer.

    Raises:
        NotReadyError, EngineDeadError: the server or engine is gone. What was answered is in the store.
    """
    keys = [store.key(case) for case in cases]
    found = [store.find(*each) for each in zip(keys, cases, strict=True)]
    outcomes = {number: outcome for number, outcome in enumerate(found) if outcome is not None}
    waiting = [number for number in range(len(cases)) if number not in outcomes]
    if not waiting:
        return [outcomes[number] for number in range(len(cases))]
    todo = iter(waiting)
    progress = tqdm(
        total=len(cases), initial=len(outcomes), unit="case", mininterval=1.0, dynamic_ncols=True
    )

    async def work(client: Client) -> None:
        for number in todo:
            outcomes[number] = outcome = await _ask(client, cases[number])
            store.add(keys[number], outcome)
            progress.update()

    try:
        async with connect() as client, asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(waiting))):
                group.create_task(work(client))
    except* ServeAppError as errors:
        raise errors.exceptions[0] from None
    finally:
        progress.close()
    return [outcomes[number] for number in range(len(cases))]


async def identify(client: Client, cases: Sequence[Case]) -> str:
    """Model and precision of the server, taken from its first answer.

    Raises:
        NotReadyError: no server answers.
    """
    for case in cases:
        try:
            provenance = (await client.answer(case.body()))["provenance"]
        except RequestError:  # this clip cannot be answered; the next may
            continue
        return f"{provenance['model_sha256']} {provenance['dtype']}"
    return "nobody answered"


async def _ask(client: Client, case: Case) -> Outcome:
    for pause_s in (*RETRY_AFTER_S, None):
        try:
            return await _ask_once(client, case)
        except ServeAppError as error:
            may_pass = error.status == SERVICE_UNAVAILABLE
            if may_pass and pause_s is not None:
                await asyncio.sleep(pause_s)
            elif isinstance(error, ENDS_THE_RUN):
                raise
            else:
                return Outcome(case, error_code=error.code, error=f"{error.title}: {error.message}")
        except Exception as error:  # a failure of one case must not cost the others their answers
            logger.exception("unexpected error about %s", case.id)
            return Outcome(case, error_code=ServeAppError.code, error=repr(error))
    raise AssertionError("the last try returns or raises")


async def _ask_once(client: Client, case: Case) -> Outcome:
    body = case.body()
    answer = await client.answer(body)
    text, provenance = answer["text"], answer["provenance"]
    if not case.labels:
        return Outcome(case, text, provenance=provenance)
    fields = ("video_path", "question", *EMOTIONS_FIELDS)
    asked = {name: body[name] for name in fields if name in body}
    try:
        scores = await client.score({**asked, "labels": list(case.labels)})
    except RequestError as error:  # the labels cannot be scored; the answer still counts
        logger.warning("no probabilities for %s: %s", case.id, error.message)
        return Outcome(case, text, provenance=provenance)
    probabilities = {each["label"]: each["probability"] for each in scores["probabilities"]}
    return Outcome(case, text, probabilities, scores["label_mass"], provenance)
