"""Clips asked about repeatedly on four engines: how many questions find their clip, and do engines idle."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from faults.cluster import fake_cluster, write_config
from faults.engine_watch import watched_engines
from faults.load import CLIENT_TIMEOUT_S
from serve_app.demo.clips import label_scenes
from serve_app.demo.world import write_scenes
from serve_app.serve_config import load_serve_config
from serve_app.server import running_server

NUM_CLIPS, NUM_QUESTIONS, NUM_REPLICAS = 200, 3, 4
MIN_HIT_RATES = {"by_clip": 0.9, "one_hot_clip": 0.8}
MIN_CACHED_TOKENS = 16  # one block: the text before the clip alone is shorter


async def affinity(folder: Path, num_clients: int, seconds: float) -> dict[str, Any]:
    """200 clips, three questions each in random order: with our router, at random, and with one hot clip."""
    with fake_cluster(NUM_REPLICAS) as cluster:
        config = write_config(folder, {"num_replicas": NUM_REPLICAS}, folder)
        with running_server(load_serve_config(config), cluster.address) as url:
            rates, idle, failed = {}, {}, 0
            for number, (name, ask_all) in enumerate(RUNS.items()):
                scenes = label_scenes(NUM_CLIPS, 9_100_000 + 1_000 * number)
                clips = write_scenes(scenes, folder / name)
                async with watched_engines() as watch:
                    visits = await _visit_all(url, ask_all(clips), num_clients)
                rates[name] = round(_hit_rate(visits), 3)
                idle[name] = round(watch.idle_share, 3)
                failed += sum(visit is None for visit in visits)
            return {
                "hit_rates": rates,
                "idle_while_another_queues": idle,
                "num_failed": failed,
                "num_wrong": 0,
                "broken": [
                    f"{name}: hit rate below {least}"
                    for name, least in MIN_HIT_RATES.items()
                    if rates[name] < least
                ],
            }


def _three_each(clips: Sequence[Path]) -> list[str]:
    asked = [str(clip) for clip in clips] * NUM_QUESTIONS
    random.Random(1).shuffle(asked)
    return asked


def _anywhere(clips: Sequence[Path]) -> list[str]:
    """Names the same file differently each time, so that the router cannot tell that it is one clip."""
    seen: Counter[str] = Counter()
    asked = []
    for path in _three_each(clips):
        seen[path] += 1
        asked.append(path.replace("/", "/" + "./" * seen[path], 1))
    return asked


def _half_about_one(clips: Sequence[Path]) -> list[str]:
    return [path for each in _three_each(clips[1:]) for path in (each, str(clips[0]))]


RUNS = {"by_clip": _three_each, "at_random": _anywhere, "one_hot_clip": _half_about_one}

Visit = tuple[
    str, float, float, bool
]  # the clip, when it was asked and answered, and whether it was met


async def _visit_all(url: str, paths: list[str], num_clients: int) -> list[Visit | None]:
    """Asks about all paths; a request that failed gives None."""
    left = list(enumerate(paths))[::-1]
    visits: list[Visit | None] = []
    loop = asyncio.get_running_loop()

    async def client() -> None:
        async with httpx.AsyncClient(timeout=CLIENT_TIMEOUT_S) as http:
            while left:
                number, path = left.pop()
                body = {"video_path": path, "question": f"{number}?", "max_tokens": 4}
                asked = loop.time()
                response = await http.post(
                    f"{url}/process_video", json=body | {"temperature": 0, "details": True}
                )
                if not response.is_success:
                    visits.append(None)
                    continue
                cached = response.json()["details"]["usage"]["cached_tokens"]
                clip = path.replace("./", "")
                visits.append((clip, asked, loop.time(), cached >= MIN_CACHED_TOKENS))

    await asyncio.gather(*(client() for _ in range(num_clients)))
    return visits


def _hit_rate(visits: Sequence[Visit | None]) -> float:
    """Hit rate of questions whose clip had been answered about before they were sent."""
    answered: dict[str, float] = {}
    known = [visit for visit in visits if visit is not None]
    for clip, _, ended, _ in known:
        answered[clip] = min(answered.get(clip, ended), ended)
    further = [is_hit for clip, asked, _, is_hit in known if asked > answered[clip]]
    return sum(further) / len(further)
