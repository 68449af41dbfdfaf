"""Ingress: receives HTTP and sends each request through the stages."""

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from serve_app.api.app import create_api
from serve_app.api.observers import Observers
from serve_app.api.request_log import log_to_stderr
from serve_app.deployments.cluster_status import cluster_status
from serve_app.deployments.pipeline import ServePipeline
from serve_app.deployments.rate_actor import SharedCounter
from serve_app.deployments.ray_meter import RayMeter
from serve_app.exposure import check_exposure
from serve_app.settings import AppSettings
from serve_app.trace_start import open_traces


@serve.ingress()
class Ingress:
    """The FastAPI application over the other two deployments. No torch, no decoding."""

    def __init__(
        self, preprocessor: DeploymentHandle, generator: DeploymentHandle, settings: AppSettings
    ) -> None:
        # Also where the config came by `serve deploy`, past our own command.
        check_exposure(_proxy_host(), settings.access)
        meter = RayMeter()
        self._pipeline = ServePipeline(preprocessor, generator, settings.limits, meter)
        self._settings = settings
        self._observers = Observers(meter, open_traces(settings.traces, "Ingress"))
        log_to_stderr()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_api(
            self._pipeline,
            self._settings,
            SharedCounter(),
            adds_request_id=False,
            observers=self._observers,
            cluster_status=cluster_status,
        )

    def __del__(self) -> None:
        if hasattr(self, "_observers"):
            self._observers.traces.close()


def _proxy_host() -> str:
    # Serve has no public function for it. Ray is pinned exactly.
    from ray.serve.context import _get_global_client

    host: str = _get_global_client().http_config.host
    return host
