"""Reads serve.yaml strictly: misspelt keys, which Serve's own schema lets pass, are errors here."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    LoggingConfig,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from serve_app.errors import ConfigurationError
from serve_app.settings import AppSettings

IMPORT_PATH = "serve_app.app:build"
DEPLOYMENT_NAMES = frozenset({"Ingress", "Preprocessor", "Generator"})

# The schema behind each mapping of the file, by its path; list items share their list's path.
_SCHEMAS: dict[str, type[BaseModel]] = {
    "": ServeDeploySchema,
    "http_options": HTTPOptionsSchema,
    "logging_config": LoggingConfig,
    "applications": ServeApplicationSchema,
    "applications.logging_config": LoggingConfig,
    "applications.deployments": DeploymentSchema,
    "applications.deployments.logging_config": LoggingConfig,
    "applications.deployments.autoscaling_config": AutoscalingConfig,
    "applications.deployments.ray_actor_options": RayActorOptionsSchema,
    "applications.deployments.request_router_config": RequestRouterConfig,
}


def load_serve_config(path: Path, model: Path | None = None, port: int | None = None) -> Any:
    """serve.yaml as Serve's schema, every key checked.

    Args:
        model: replaces args.model. Relative model paths are resolved against the working folder:
            replicas have another one.
        port: replaces http_options.port.

    Returns:
        A ServeDeploySchema.

    Raises:
        ConfigurationError: names the key that is unknown, missing or out of range.
    """
    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigurationError(f"{path}: expected a mapping at the top")
    application = _only_application(raw, path)
    args = application.setdefault("args", {})
    if model is not None:
        args["model"] = str(model)
    if port is not None:
        raw.setdefault("http_options", {})["port"] = port
    _reject_unknown_keys(raw, "", path)
    _check_deployments(application, path)
    try:
        settings = AppSettings.model_validate(args)
        args["model"] = str(settings.model.resolve())
        return ServeDeploySchema.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        )
        raise ConfigurationError(f"{path}: {problems}") from error


def app_settings(config: Any) -> AppSettings:
    """The `args:` of a loaded config."""
    return AppSettings.model_validate(config.applications[0].args)


def _only_application(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    applications = raw.get("applications")
    if not isinstance(applications, list) or len(applications) != 1:
        raise ConfigurationError(f"{path}: applications: expected a list of exactly one")
    application = applications[0]
    if not isinstance(application, dict) or application.get("import_path") != IMPORT_PATH:
        raise ConfigurationError(f"{path}: applications.0.import_path: expected {IMPORT_PATH}")
    return application


def _reject_unknown_keys(node: Any, where: str, path: Path) -> None:
    if isinstance(node, list):
        for item in node:
            _reject_unknown_keys(item, where, path)
    if not isinstance(node, dict):
        return
    schema = _SCHEMAS.get(where)
    for key, value in node.items():
        here = f"{where}.{key}" if where else str(key)
        if schema is not None and key not in schema.model_fields:
            raise ConfigurationError(f"{path}: unknown key {here}")
        _reject_unknown_keys(value, here, path)


def _check_deployments(application: dict[str, Any], path: Path) -> None:
    for deployment in application.get("deployments", []):
        name = deployment.get("name")
        if name not in DEPLOYMENT_NAMES:
            known = ", ".join(sorted(DEPLOYMENT_NAMES))
            raise ConfigurationError(f"{path}: no deployment is called {name!r}; there are {known}")
