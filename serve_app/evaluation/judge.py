"""EMER: descriptions, and an outside language model that says how well they overlap with the references.

The judge of the published figures is gone, so absolute numbers cannot be compared with them: a baseline is
always scored beside the answers, by the same judge in the same run.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from serve_app.errors import InvalidRequestError, NotReadyError
from serve_app.evaluation.store import KeyedLines

# ruff: noqa: RUF001 - Chinese punctuation is meant

SCORE = re.compile(r"\d+(?:\.\d+)?")  # the first number of a reply
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
"""Our words for the two questions of AffectGPT's evaluation, 1 to 10 each."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Any server that speaks OpenAI's chat completions."""

    url: str  # up to /v1
    model: str
    key: str | None = None
    concurrency: int = 8


async def judge_all(
    judge: Judge,
    references: Sequence[str],
    descriptions: Mapping[str, Sequence[str]],
    replies: KeyedLines,
) -> dict[str, Any]:
    """Each named list of descriptions against the references: mean scores, and every reply.

    Means are over the clips that have a score in every list. A question that the judge did not answer is a
    row without score; started again, only those are asked.

    Raises:
        InvalidRequestError: the judge refuses every question, as with a wrong key.
        NotReadyError: it cannot be reached.
    """
    import httpx

    headers = {"Authorization": f"Bearer {judge.key}"} if judge.key else {}
    turns = asyncio.Semaphore(judge.concurrency)
    jobs = [
        (name, kind, number)
        for name in descriptions
        for kind in KINDS
        for number in range(len(references))
    ]
    async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers) as http:

        async def one(name: str, kind: str, number: int) -> dict[str, Any]:
            text = question(kind, references[number], descriptions[name][number])
            async with turns:
                return await _reply(http, judge, text, replies)

        with tqdm(total=len(jobs), unit="reply", mininterval=1.0, dynamic_ncols=True) as progress:

            async def counted(job: tuple[str, str, int]) -> dict[str, Any]:
                row = await one(*job)
                progress.update()
                return row

            rows = dict(
                zip(jobs, await asyncio.gather(*(counted(job) for job in jobs)), strict=True)
            )
    _check_any(list(rows.values()), judge)
    scored = [
        number
        for number in range(len(references))
        if all(
            rows[name, kind, number]["score"] is not None for name in descriptions for kind in KINDS
        )
    ]
    return {
        name: {
            kind: {
                "mean": float(np.mean([rows[name, kind, n]["score"] for n in scored]))
                if scored
                else None,
                "num_scored": len(scored),
                "rows": [rows[name, kind, n] for n in range(len(references))],
            }
            for kind in KINDS
        }
        for name in descriptions
    }


def question(kind: str, reference: str, description: str) -> str:
    return f"{KINDS[kind]}\n\n《真实描述》{reference}\n\n《预测描述》{description}"


def read_score(reply: str) -> float | None:
    """The first number, if it lies in 1..10."""
    found = SCORE.search(reply)
    if found is None:
        return None
    score = float(found[0])
    return score if MIN_SCORE <= score <= MAX_SCORE else None


def _check_any(rows: Sequence[dict[str, Any]], judge: Judge) -> None:
    errors = [row["error"] for row in rows if row["error"]]
    if rows and len(errors) == len(rows):
        raise InvalidRequestError(
            f"--judge-url {judge.url} answered nothing; the first: {errors[0]}"
        )


async def _reply(http: Any, judge: Judge, text: str, replies: KeyedLines) -> dict[str, Any]:
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
    """The reply, or what went wrong. A busy judge is asked again, when it says so or later each time."""
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
        return "", f"not as OpenAI's: {response.text[:200]}"
