"""Routes for whoever runs the server: is it alive, is it ready."""

from fastapi import APIRouter

from serve_app.api.service import AnswerService
from serve_app.errors import NotReadyError


def create_router(service: AnswerService) -> APIRouter:
    """GET /healthz and GET /readyz."""
    router = APIRouter(tags=["operations"])

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, str]:
        if not service.is_ready:
            raise NotReadyError("the warm-up request has not gone through yet")
        return {"status": "ready"}

    return router
