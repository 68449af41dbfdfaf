"""EMER's judge: an external language model that scores how well descriptions overlap with the references.

The judge behind the published figures no longer exists, so absolute scores cannot be compared with them.
Therefore a baseline is always scored beside the answers, by the same judge in the same run.
"""

import asyncio
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from serve_app.errors import InvalidRequestError, NotReadyError
from serve_app.evaluation.store import KeyedLines

# ruff: noqa: RUF001 - Chinese punctuation is meant

SCORE = re.compile(r"\d+(?:\.\d+)?")  # the first number in a reply
MIN_SCORE, MAX_SCORE = 1.0, 10.0
TIMEOUT_S = 120.0
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0)
MAX_PAUSE_S = 60.0
TOO_MANY_REQUESTS = 429
KINDS = {
    "clue_overlap": (
        "下面是对同一段视频的两份描述。请比较两者提到的情感线索有多少重合，"
        "给出1到10之间的分数：1表示毫无重合，10表示完全一致。只回答一个数字。"
    ),
    "label_overlap": (
        "下面是对同一段视频的两份描述。请先把每份描述概括为情感词，再比较两组情感词有多少重合，"
        "给出1到10之间的分数：1表示毫无重合，10表示完全一致。只回答一个数字。"
    ),
}
"""The two questions of AffectGPT's evaluation in our own words, each for a score of 1 to 10."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Any server that speaks OpenAI's chat completions."""

    url: str  # up to /v1
    model: str
    key: str | None = None
    concurrency: int = 8


Row = dict[str, Any]  # score (None if there is none), reply, error


class Job(NamedTuple):
    """One question to the judge: which list of descriptions, which kind of question, which clip."""

    name: str
    kind: str
    number: int


async def judge_all(
    judge: Judge,
    references: Sequence[str],
    descriptions: Mapping[str, Sequence[str]],
    replies: KeyedLines,
) -> dict[str, Any]:
    """Scores each named list of descriptions against the references: means, and every reply.

    Means are over the clips that have a score in every list. A question that the judge did not answer is a
    row without a score; when the evaluation is started again, only those are asked.

    Raises:
        InvalidRequestError: the judge refuses every question, for instance because the key is wrong.
        NotReadyError: it cannot be reached.
    """
    numbers = range(len(references))
    jobs = [Job(*each) for each in itertools.product(descriptions, KINDS, numbers)]
    texts = [
        question(job.kind, references[job.number], descriptions[job.name][job.number])
        for job in jobs
    ]
    rows = dict(zip(jobs, await _ask_all(judge, texts, replies), strict=True))
    _check_any(list(rows.values()), judge)
    scored = _scored(rows)
    summary: dict[str, Any] = {name: {} for name in descriptions}
    for name, kind in itertools.product(descriptions, KINDS):
        own = [rows[Job(name, kind, number)] for number in numbers]
        summary[name][kind] = _summary(own, scored)
    return summary


def question(kind: str, reference: str, description: str) -> str:
    return f"{KINDS[kind]}\n\n《真实描述》{reference}\n\n《预测描述》{description}"


def read_score(reply: str) -> float | None:
    """The first number in a reply, if it lies in 1..10."""
    found = SCORE.search(reply)
    if found is None:
        return None
    score = float(found[0])
    return score if MIN_SCORE <= score <= MAX_SCORE else None


async def _ask_all(judge: Judge, texts: Sequence[str], replies: KeyedLines) -> list[Row]:
    """Sends every text to the judge and returns a row for each. Shows progress on stderr."""
    import httpx

    headers = {"Authorization": f"Bearer {judge.key}"} if judge.key else {}
    turns = asyncio.Semaphore(judge.concurrency)
    progress = tqdm(total=len(texts), unit="reply", mininterval=1.0, dynamic_ncols=True)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers) as http:

        async def one(text: str) -> Row:
            async with turns:
                row = await _reply(http, judge, text, replies)
            progress.update()
            return row

        with progress:
            return await asyncio.gather(*map(one, texts))


def _scored(rows: Mapping[Job, Row]) -> list[int]:
    """Numbers of the clips all of whose rows have a score."""
    unscored = {job.number for job, row in rows.items() if row["score"] is None}
    return sorted({job.number for job in rows} - unscored)


def _summary(rows: Sequence[Row], scored: Sequence[int]) -> dict[str, Any]:
    """Mean score and rows (one for each clip) of one kind of question about one list of descriptions."""
    scores = [rows[number]["score"] for number in scored]
    mean = float(np.mean(scores)) if scores else None
    return {"mean": mean, "num_scored": len(scored), "rows": list(rows)}


def _check_any(rows: Sequence[Row], judge: Judge) -> None:
    errors = [row["error"] for row in rows if row["error"]]
    if rows and len(errors) == len(rows):
        raise InvalidRequestError(
            f"--judge-url {judge.url} answered no question; the first error: {errors[0]}"
        )


async def _reply(http: Any, judge: Judge, text: str, replies: KeyedLines) -> Row:
    key = hashlib.sha256(json.dumps([judge.model, text]).encode()).hexdigest()
    known = replies.get(key)
    if known is None:
        reply, error = await _ask(http, judge, text)
        if error:
            return {"score": None, "reply": reply, "error": error}
        replies.put(key, {"reply": reply})
    else:
        reply = known["reply"]
    return {"score": read_score(reply), "reply": reply, "error": ""}


async def _ask(http: Any, judge: Judge, text: str) -> tuple[str, str]:
    """The reply, or what went wrong. Retries a busy judge after growing pauses, or after its Retry-After."""
    import httpx

    body = {"model": judge.model, "temperature": 0, "messages": [{"role": "user", "content": text}]}
    for pause_s in (*PAUSES_S, None):
        try:
            response = await http.post(f"{judge.url}/chat/completions", json=body)
        except httpx.InvalidURL as error:
            raise InvalidRequestError(f"--judge-url {judge.url}: {error}") from error
        except httpx.TransportError as error:
            if pause_s is None:
                raise NotReadyError(f"--judge-url {judge.url} does not answer: {error}") from error
        else:
            if response.status_code < 500 and response.status_code != TOO_MANY_REQUESTS:
                break
            stated = response.headers.get("Retry-After", "")
            if pause_s is not None and stated.isdecimal():
                pause_s = max(pause_s, min(float(stated), MAX_PAUSE_S))
        if pause_s is None:
            break
        await asyncio.sleep(pause_s)
    if not response.is_success:
        return "", f"status {response.status_code}: {response.text[:200]}"
    try:
        return str(response.json()["choices"][0]["message"]["content"]), ""
    except (ValueError, KeyError, IndexError, TypeError):
        return "", f"not an OpenAI chat completion: {response.text[:200]}"
