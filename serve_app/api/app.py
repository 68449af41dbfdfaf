"""create_api: the routers, the error handlers and the body limit in one FastAPI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from serve_app import __version__
from serve_app.api import emotions, gradio, operations, process_video
from serve_app.api.access import Access
from serve_app.api.body_limit import BodyLimit
from serve_app.api.errors import UnexpectedErrors, add_error_handlers
from serve_app.api.observers import Observers
from serve_app.api.openai import chat
from serve_app.api.reference.document import describe
from serve_app.api.request_id import RequestIds
from serve_app.api.request_log import RequestLog
from serve_app.api.server_status import ClusterStatus, ServerStatus, no_cluster
from serve_app.api.service import AnswerService
from serve_app.api_keys import KeyStore
from serve_app.rate_limits import MemoryCounter, RateCounter
from serve_app.settings import AppSettings

SAMPLE_PERIOD_S = 2.0  # between two samples of the gauges

# What a web page may read of a response beside its body.
EXPOSED_HEADERS = (
    "X-Request-Id",
    "X-Error-Code",
    "X-Cache",
    "Retry-After",
    "RateLimit",
    "RateLimit-Policy",
)


def create_api(
    service: AnswerService,
    settings: AppSettings,
    counter: RateCounter | None = None,
    adds_request_id: bool = True,
    observers: Observers | None = None,
    cluster_status: ClusterStatus = no_cluster,
) -> FastAPI:
    """The application over one service. Its start-up begins the warm-up without waiting for it.

    Args:
        counter: counts requests for all replicas; None: this process counts its own.
        adds_request_id: add X-Request-Id to responses; False under Serve, which adds it itself.
        observers: record metrics, traces and requests in flight; None records nothing.
        cluster_status: reads the deployments for GET /v1/status.

    Raises:
        ConfigurationError: the keys cannot be read.
    """
    observers = observers or Observers()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warm_up = asyncio.create_task(service.warm_up())
        sampling = asyncio.create_task(_sample(observers))
        yield
        warm_up.cancel()
        sampling.cancel()

    api = FastAPI(title="Emotion-LLaMA", version=__version__, lifespan=lifespan)
    api.include_router(gradio.create_router(service, settings))
    api.include_router(process_video.create_router(service, settings))
    api.include_router(emotions.create_router(service, settings))
    api.include_router(chat.create_router(service, settings))
    status = ServerStatus(service, settings, observers.in_flight, cluster_status)
    api.include_router(operations.create_router(service, status))
    add_error_handlers(api, settings)
    keys = KeyStore(settings.access.keys_file)
    describe(api, settings, asks_for_keys=not keys.is_open)
    # The last one added is the outermost.
    api.add_middleware(BodyLimit, limits=settings.limits)
    api.add_middleware(
        Access,
        keys=keys,
        counter=counter or MemoryCounter(),
        settings=settings.access,
    )
    api.add_middleware(UnexpectedErrors)
    if settings.access.cors_origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=settings.access.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    api.add_middleware(RequestLog, observers=observers)
    api.add_middleware(RequestIds, adds_header=adds_request_id)
    return api


async def _sample(observers: Observers) -> None:
    while True:
        observers.sample()
        await asyncio.sleep(SAMPLE_PERIOD_S)
