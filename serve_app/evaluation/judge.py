"""EMER: descriptions, and an outside language model that says how well they overlap with the references.

The judge of the published figures is gone, so absolute numbers cannot be compared with them: a baseline is
always scored beside the answers, by the same judge in the same run.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serve_app.errors import NotReadyError, ServeAppError

# ruff: noqa: RUF001 - Chinese punctuation is meant

SCORE = re.compile(r"\d+(?:\.\d+)?")  # the first number of a reply
MIN_SCORE, MAX_SCORE = 1.0, 10.0
TIMEOUT_S = 120.0
TRIES = 3
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
    judge: Judge, references: Sequence[str], descriptions: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Mean scores of each named list of descriptions against the references, with every reply.

    Raises:
        NotReadyError: the judge cannot be reached. ServeAppError: it refuses, or gives no score.
    """
    import httpx

    headers = {"Authorization": f"Bearer {judge.key}"} if judge.key else {}
    turns = asyncio.Semaphore(judge.concurrency)
    async with httpx.AsyncClient(timeout=TIMEOUT_S, headers=headers) as http:

        async def one(kind: str, reference: str, description: str) -> dict[str, Any]:
            async with turns:
                reply = await _ask(http, judge, question(kind, reference, description))
            return {"score": read_score(reply), "reply": reply}

        async def one_list(kind: str, texts: Sequence[str]) -> dict[str, Any]:
            pairs = zip(references, texts, strict=True)
            rows = await asyncio.gather(*(one(kind, *pair) for pair in pairs))
            scores = [row["score"] for row in rows if row["score"] is not None]
            mean = float(np.mean(scores)) if scores else None
            return {"mean": mean, "num_scored": len(scores), "rows": rows}

        return {
            name: {kind: await one_list(kind, texts) for kind in KINDS}
            for name, texts in descriptions.items()
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


async def _ask(http: Any, judge: Judge, text: str) -> str:
    import httpx

    body = {"model": judge.model, "temperature": 0, "messages": [{"role": "user", "content": text}]}
    for last in (*[False] * (TRIES - 1), True):
        try:
            response = await http.post(f"{judge.url}/chat/completions", json=body)
            if response.status_code < 500 and response.status_code != 429:
                break
        except httpx.TransportError as error:
            if last:
                raise NotReadyError(f"--judge-url {judge.url} does not answer: {error}") from error
        if not last:
            await asyncio.sleep(1)
    if not response.is_success:
        raise ServeAppError(
            f"--judge-url {judge.url}: status {response.status_code}: {response.text[:200]}"
        )
    try:
        return str(response.json()["choices"][0]["message"]["content"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ServeAppError(
            f"--judge-url {judge.url} does not answer as OpenAI's: {response.text[:200]}"
        ) from error
