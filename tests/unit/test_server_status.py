"""GET /v1/status over a fake cluster."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from unit.test_api import QUESTION, FakeService

from serve_app.api import server_status
from serve_app.api.app import create_api
from serve_app.api.server_status import ServerStatus
from serve_app.in_flight import InFlight
from serve_app.settings import AppSettings

HEALTHY = {"Ingress": {"status": "HEALTHY", "replicas": {"RUNNING": 1}}}


class Cluster:
    """Counts its calls. It may fail, or not answer."""

    def __init__(self) -> None:
        self.num_asked = 0
        self.error: Exception | None = None
        self.takes_s = 0.0

    async def __call__(self) -> Mapping[str, Any]:
        self.num_asked += 1
        await asyncio.sleep(self.takes_s)
        if self.error:
            raise self.error
        return HEALTHY


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(cluster: Cluster, service: FakeService) -> Iterator[TestClient]:
    api = create_api(service, AppSettings(model=Path("/m")), cluster_status=cluster)
    with TestClient(api) as client:
        yield client


def test_the_cluster_is_asked_once_a_second(
    client: TestClient, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        assert client.get("/v1/status").json()["deployments"] == HEALTHY
    assert cluster.num_asked == 1
    monkeypatch.setattr(server_status, "KEPT_S", 0.0)
    client.get("/v1/status")
    assert cluster.num_asked == 2


@pytest.mark.parametrize("takes_s", [0.0, 60.0], ids=["it fails", "it hangs"])
def test_a_cluster_in_trouble_leaves_the_rest(
    client: TestClient, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, takes_s: float
) -> None:
    monkeypatch.setattr(server_status, "TIMEOUT_S", 0.1)
    cluster.error, cluster.takes_s = RuntimeError("the controller is gone"), takes_s
    status = client.get("/v1/status").json()
    assert (status["deployments"], status["model"]["sha256"]) == (None, None)
    assert status["status"] == "ready"


@pytest.mark.parametrize(
    ("takes_s", "told"), [(0.05, HEALTHY), (60.0, None)], ids=["it is slow", "it hangs"]
)
async def test_all_who_ask_meanwhile_wait_for_one_question(
    cluster: Cluster,
    service: FakeService,
    monkeypatch: pytest.MonkeyPatch,
    takes_s: float,
    told: Any,
) -> None:
    monkeypatch.setattr(server_status, "KEPT_S", 0.0)
    monkeypatch.setattr(server_status, "TIMEOUT_S", 0.2)
    cluster.takes_s = takes_s
    status = ServerStatus(service, AppSettings(model=Path("/m")), InFlight(), cluster)
    answers = await asyncio.gather(*(status.read() for _ in range(3)))
    assert [answer["deployments"] for answer in answers] == [told] * 3
    assert cluster.num_asked == 1
    assert (await status.read())["status"] == "starting", "nobody has warmed it up"
    assert cluster.num_asked == (2 if told else 1), "a question that hangs is not asked again"
    monkeypatch.setattr(server_status, "LOST_S", 0.0)
    num_asked = cluster.num_asked
    await status.read()
    assert cluster.num_asked == num_asked + 1, "but not waited for for ever"


async def test_who_is_inside_is_counted(service: FakeService) -> None:
    service.takes_s = 0.5
    api = create_api(service, AppSettings(model=Path("/m")))
    transport = httpx.ASGITransport(app=api)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        asking = asyncio.create_task(client.post("/process_video", json=QUESTION))
        await asyncio.sleep(0.1)
        during = (await client.get("/v1/status")).json()["requests"]
        await asking
        after = (await client.get("/v1/status")).json()["requests"]
    assert (during["in_flight"], during["oldest_s"] > 0.05, during["limit"]) == (1, True, 128)
    assert (after["in_flight"], after["oldest_s"]) == (0, 0)
