"""Routes for the operators: liveness, readiness and status."""

from typing import Any

from fastapi import APIRouter

from serve_app.api.paths import ALIVE, READY, STATUS
from serve_app.api.reference.answers import ServerStatusAnswer, Status
from serve_app.api.reference.examples import STATUS_ANSWERS
from serve_app.api.reference.schemas import answer_schema
from serve_app.api.server_status import ServerStatus
from serve_app.api.service import AnswerService
from serve_app.errors import NotReadyError


def create_router(service: AnswerService, server_status: ServerStatus) -> APIRouter:
    """GET /healthz, GET /readyz and GET /v1/status."""
    router = APIRouter(tags=["operations"])

    @router.get(
        ALIVE,
        summary="Is it alive?",
        responses=answer_schema(Status, {"alive": {"status": "ok"}}),
    )
    async def healthz() -> dict[str, str]:
        """For a liveness probe: answers without asking any stage."""
        return {"status": "ok"}

    @router.get(
        READY,
        summary="Is it ready?",
        responses=answer_schema(Status, {"ready": {"status": "ready"}}),
    )
    async def readyz() -> dict[str, str]:
        """200 once a warm-up request went through every stage."""
        if not service.is_ready:
            raise NotReadyError("the warm-up request has not gone through yet")
        return {"status": "ready"}

    @router.get(
        STATUS,
        summary="What runs here?",
        responses=answer_schema(ServerStatusAnswer, STATUS_ANSWERS),
    )
    async def status() -> dict[str, Any]:
        """Replicas, requests in flight, versions, the model and settings. Cheap: kept for a second."""
        return await server_status.read()

    return router
