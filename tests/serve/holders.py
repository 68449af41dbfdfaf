"""A stand-in for a stage that holds the clips it has seen, and what can be told from its answers."""

import asyncio
import os
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ray.serve.handle import DeploymentHandle


@dataclass(frozen=True, slots=True)
class Visit:
    """One request as its replica saw it."""

    clip: str
    replica: int
    is_hit: bool  # the replica held the clip
    began: float  # time.monotonic(), one clock on one machine
    ended: float


class Holder:
    """Takes a while over each request, as an engine does, whatever else it has to do."""

    def __init__(self, takes_s: float) -> None:
        self._takes_s = takes_s
        self._held: set[str] = set()

    async def visit(self, clip: str) -> Visit:
        began = time.monotonic()
        is_hit = clip in self._held
        await asyncio.sleep(self._takes_s)
        self._held.add(clip)
        return Visit(clip, os.getpid(), is_hit, began, time.monotonic())


async def visit_all(
    handle: DeploymentHandle, clips: Sequence[str], num_clients: int
) -> list[Visit]:
    """Each client takes the next clip as soon as it has its answer."""
    left = list(clips)[::-1]
    visits: list[Visit] = []

    async def client() -> None:
        while left:
            clip = left.pop()
            visits.append(await handle.options(session_id=clip).visit.remote(clip))

    await asyncio.gather(*(client() for _ in range(num_clients)))
    return visits


def hit_rate(visits: Iterable[Visit]) -> float:
    """Of the requests about clips that some replica had answered about before they began."""
    ordered = sorted(visits, key=lambda visit: visit.began)
    first_ended: dict[str, float] = {}
    for visit in ordered:
        first_ended[visit.clip] = min(first_ended.get(visit.clip, visit.ended), visit.ended)
    further = [visit for visit in ordered if visit.began > first_ended[visit.clip]]
    return sum(visit.is_hit for visit in further) / len(further)


def idle_while_another_has(visits: Iterable[Visit], num_ongoing: int, num_replicas: int) -> float:
    """Seconds in which one replica had nothing to do while another had more than `num_ongoing` requests."""
    changes = sorted(
        [(v.began, v.replica, 1) for v in visits] + [(v.ended, v.replica, -1) for v in visits]
    )
    ongoing: dict[int, int] = {}
    idle_s, last = 0.0, changes[0][0]
    for now, replica, change in changes:
        busy = sum(count > 0 for count in ongoing.values())
        if busy < num_replicas and max(ongoing.values(), default=0) > num_ongoing:
            idle_s += now - last
        ongoing[replica] = ongoing.get(replica, 0) + change
        last = now
    return idle_s


def three_questions_each(num_clips: int, seed: int) -> list[str]:
    clips = [f"clip {number}" for number in range(num_clips)] * 3
    random.Random(seed).shuffle(clips)
    return clips
