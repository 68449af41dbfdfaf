"""Clients that ask one question after another and compare each answer with the one given without faults."""

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from serve_app.demo.clips import label_scenes
from serve_app.demo.world import write_scenes

QUESTIONS = ("[emotion] What is the emotion?", "[reason] Why does the person feel this way?")
CLIENT_TIMEOUT_S = 30.0  # that of the documented client
RETRY_PAUSE_S = 0.5
NUM_CLIPS, CLIPS_SEED = 8, 9_000_000
STEADY_TIMEOUT_S = 300.0


@dataclass
class Load:
    """The load and its results."""

    url: str
    clips: Sequence[Path]
    max_tries: int = 1  # a client's, for one question
    timeout_s: float = CLIENT_TIMEOUT_S
    expected: dict[tuple[Path, str], str] = field(default_factory=dict)
    num_answered: int = 0
    num_wrong: int = 0
    num_tries: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)

    async def learn(self) -> None:
        """Records the answers that are given without faults."""
        async with httpx.AsyncClient(timeout=self.timeout_s) as http:
            for clip in self.clips:
                for question in QUESTIONS:
                    response = await self._post(http, clip, question)
                    response.raise_for_status()
                    self.expected[clip, question] = response.json()["response"]

    @asynccontextmanager
    async def running(self, num_clients: int) -> AsyncIterator[None]:
        """The clients ask while the block runs; at its end each waits for its last answer."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as clients:
            for _ in range(num_clients):
                clients.create_task(self._client(stop))
            try:
                yield
            finally:
                stop.set()

    async def _client(self, stop: asyncio.Event) -> None:
        async with httpx.AsyncClient(timeout=self.timeout_s) as http:
            while not stop.is_set():
                clip, question = random.choice(list(self.expected))
                started = time.monotonic()
                answer = await self._ask(http, clip, question)
                if answer is not None:
                    self.num_answered += 1
                    self.num_wrong += answer != self.expected[clip, question]
                    self.latencies_s.append(time.monotonic() - started)

    async def _ask(self, http: httpx.AsyncClient, clip: Path, question: str) -> str | None:
        """Asks, with retries. Counts a failure and returns None if the last try fails too."""
        for number in range(self.max_tries):
            self.num_tries += 1
            try:
                response = await self._post(http, clip, question)
                if response.is_success:
                    return str(response.json()["response"])
                failure = f"{response.status_code} {response.headers.get('X-Error-Code')}"
            except httpx.HTTPError as error:
                failure = type(error).__name__
            if number + 1 < self.max_tries:
                await asyncio.sleep(RETRY_PAUSE_S)
        self.failures[failure] += 1
        return None

    async def _post(self, http: httpx.AsyncClient, clip: Path, question: str) -> httpx.Response:
        body = {"video_path": str(clip), "question": question, "temperature": 0, "max_tokens": 48}
        return await http.post(f"{self.url}/process_video", json=body)

    async def has_answered(self) -> bool:
        return self.num_answered > 0

    @property
    def num_failed(self) -> int:
        return self.failures.total()

    def figures(self) -> dict[str, Any]:
        ordered = sorted(self.latencies_s) or [0.0]
        return {
            "num_answered": self.num_answered,
            "num_failed": self.num_failed,
            "num_wrong": self.num_wrong,
            "num_tries": self.num_tries,
            "failures": dict(self.failures),
            "latency_median_s": round(statistics.median(ordered), 3),
            "latency_max_s": round(ordered[-1], 3),
        }


async def prepared(
    url: str, folder: Path, max_tries: int = 1, timeout_s: float = CLIENT_TIMEOUT_S
) -> Load:
    """Makes a load whose clients know the answers that are given without faults."""
    clips = write_scenes(label_scenes(NUM_CLIPS, CLIPS_SEED), folder / "clips")
    load = Load(url, clips, max_tries, timeout_s)
    await load.learn()
    return load


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(STEADY_TIMEOUT_S):
        while not await condition():  # noqa: ASYNC110 - Serve sends no notification
            await asyncio.sleep(0.2)
