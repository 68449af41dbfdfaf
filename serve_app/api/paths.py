"""The paths of the routes, and the path of a request. It imports no route, so all modules may import it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope

PROCESS_VIDEO = "/process_video"
PREDICT = ("/api/predict", "/api/predict/", "/run/predict", "/run/predict/")  # Gradio's
EMOTIONS = "/v1/emotions"
CHAT = "/v1/chat/completions"
MODELS = "/v1/models"
STATUS = "/v1/status"
ALIVE, READY = "/healthz", "/readyz"

OPEN = frozenset({ALIVE, READY})  # probes have no key
OPENAI_PREFIX = "/v1/"  # below it errors have OpenAI's form


def route_path(scope: "Scope") -> str:
    """Path of a request within the application, without the prefix that Serve mounts it under."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(prefix) if prefix else path
