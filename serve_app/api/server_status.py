"""The body of GET /v1/status: what runs here, in which versions, and its load."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from serve_app import __version__
from serve_app.api.service import AnswerService
from serve_app.checkpoint import read_manifest
from serve_app.errors import CheckpointError
from serve_app.in_flight import InFlight
from serve_app.settings import AppSettings
from serve_app.versions import installed_versions

logger = logging.getLogger(__name__)

KEPT_S = 1.0  # the deployments are read at most this often
LOST_S = 60.0  # after this an unanswered call counts as lost: one that was cut off may never end
TIMEOUT_S = 2.0  # for the cluster's answer; the cluster may be what is failing


ClusterStatus = Callable[[], Awaitable[Mapping[str, Any]]]
"""Reads the deployments by name, each with its status and the number of its replicas by state."""


async def no_cluster() -> Mapping[str, Any]:
    """The ClusterStatus without Ray: no deployments."""
    return {}


class ServerStatus:
    """Status of this ingress replica, with the deployments of the whole application."""

    def __init__(
        self,
        service: AnswerService,
        settings: AppSettings,
        in_flight: InFlight,
        cluster_status: ClusterStatus,
    ) -> None:
        self._service, self._in_flight, self._cluster_status = service, in_flight, cluster_status
        self._limit = settings.limits.max_in_flight
        self._started = time.monotonic()
        self._asking: asyncio.Task[Mapping[str, Any] | None] | None = None
        self._asked_at = float("-inf")
        self._fixed = {
            "model": {"name": settings.model_name, "sha256": _model_sha256(settings)},
            "versions": {"emotion_llama": __version__, **installed_versions()},
            "settings": _chosen(settings),
        }

    async def read(self) -> dict[str, Any]:
        """The route's body. The deployments in it are at most a second old."""
        deployments = await self._deployments()
        return {
            "status": "ready" if self._service.is_ready else "starting",
            "uptime_s": round(time.monotonic() - self._started, 1),
            "requests": {
                "in_flight": self._in_flight.num_requests,
                "oldest_s": round(self._in_flight.oldest_s, 3),
                "limit": self._limit,
            },
            "deployments": deployments,
            **self._fixed,
        }

    async def _deployments(self) -> Mapping[str, Any] | None:
        """The deployments, or None if the cluster does not answer in time. Concurrent callers share one call,
        because a call that hangs occupies a thread."""
        age_s = time.monotonic() - self._asked_at
        kept_s = KEPT_S if self._asking is None or self._asking.done() else LOST_S
        if self._asking is None or age_s > kept_s:
            self._asked_at = time.monotonic()
            self._asking = asyncio.create_task(self._ask_cluster())
        asking = self._asking
        await asyncio.wait([asking], timeout=TIMEOUT_S)
        if not asking.done():
            logger.warning("the cluster did not report its deployments in %s s", TIMEOUT_S)
            return None
        return asking.result()

    async def _ask_cluster(self) -> Mapping[str, Any] | None:
        try:
            return await self._cluster_status()
        except Exception:  # Ray's exceptions have no common base class
            logger.exception("reading the deployments from the cluster failed")
            return None


def _model_sha256(settings: AppSettings) -> str | None:
    """The manifest's hash of the model; None where the model directory is not on this node."""
    try:
        manifest = read_manifest(settings.model)
    except CheckpointError:
        return None
    return None if manifest is None else str(manifest["sha256"])


def _chosen(settings: AppSettings) -> dict[str, Any]:
    """The settings that change answers or limit them."""
    return {
        "parity": settings.parity,
        "layout": settings.layout,
        "tokenization": settings.tokenization,
        "legacy_errors": settings.legacy_errors,
        "dtype": settings.engine.dtype,
        "max_model_len": settings.engine.max_model_len,
        "max_num_seqs": settings.engine.max_num_seqs,
        "request_timeout_s": settings.limits.request_timeout_s,
        "keeps_answers": settings.answer_cache.max_bytes > 0,
    }
