"""Where a request goes within the application, whatever prefix Serve mounts it under."""

from starlette.types import Scope


def route_path(scope: Scope) -> str:
    path, prefix = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(prefix) if prefix else path
