"""Routes for whoever runs the server: is it alive, is it ready."""

from fastapi import APIRouter

from serve_app.api.responses import Status, answer_schema
from serve_app.api.service import AnswerService
from serve_app.errors import NotReadyError


def create_router(service: AnswerService) -> APIRouter:
    """GET /healthz and GET /readyz."""
    router = APIRouter(tags=["operations"])

    @router.get(
        "/healthz",
        summary="Is it alive?",
        responses=answer_schema(Status, {"alive": {"status": "ok"}}),
    )
    async def healthz() -> dict[str, str]:
        """Asks no stage: for a liveness probe."""
        return {"status": "ok"}

    @router.get(
        "/readyz",
        summary="Is it ready?",
        responses=answer_schema(Status, {"ready": {"status": "ready"}}),
    )
    async def readyz() -> dict[str, str]:
        """200 once a warm-up request went through every stage."""
        if not service.is_ready:
            raise NotReadyError("the warm-up request has not gone through yet")
        return {"status": "ready"}

    return router
