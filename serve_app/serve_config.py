"""Reads serve.yaml strictly: unknown keys, which Serve's own schema accepts, are errors here."""

from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from ray.serve._private.constants import DEFAULT_GRACEFUL_SHUTDOWN_TIMEOUT_S
from ray.serve._private.utils import DEFAULT
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import ServeDeploySchema

from serve_app.errors import ConfigurationError
from serve_app.settings import AppSettings, EngineLoadSettings, LimitSettings
from serve_app.validation import describe_problems

Model = TypeVar("Model", bound=BaseModel)

IMPORT_PATH = "serve_app.app:build"
LOAD_POLICY = "serve_app.autoscaling:EngineLoadPolicy"
DEPLOYMENT_NAMES = frozenset({"Ingress", "Preprocessor", "Generator"})


def load_serve_config(path: Path, model: Path | None = None, port: int | None = None) -> Any:
    """Load serve.yaml and check every key.

    Args:
        model: replaces args.model. Relative model paths are made absolute, because replicas have another
            working folder.
        port: the only port, in place of http_options.port and args.extra_ports.

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
    if not isinstance(raw.setdefault("http_options", {}), dict):
        raise ConfigurationError(f"{path}: http_options: expected a mapping")
    application = _only_application(raw, path)
    args = application["args"]
    if model is not None:
        args["model"] = str(model)
    if port is not None:
        raw["http_options"]["port"] = port
        args["extra_ports"] = []
    _reject_unknown_keys(raw, ServeDeploySchema, "", path)
    _check_deployments(application, path)
    settings = _validated(AppSettings, args, "applications.0.args", path)
    args["model"] = str(settings.model.resolve())
    if settings.access.keys_file is not None:
        args["access"]["keys_file"] = str(settings.access.keys_file.resolve())
    if settings.media.urls.ca_file is not None:
        args["media"]["urls"]["ca_file"] = str(settings.media.urls.ca_file.resolve())
    config = _parse(raw, path)
    _check_policy(config, path)
    _check_times(config, settings.limits, path)
    return config


def _validated(model: type[Model], value: Any, where: str, path: Path) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = describe_problems(error.errors(), where)
        raise ConfigurationError(f"{path}: {problems}") from error


def _parse(raw: dict[str, Any], path: Path) -> Any:
    """Parse by Serve's schema, which also imports the classes it names (policies, request routers)."""
    try:
        return _validated(ServeDeploySchema, raw, "", path)
    except (AttributeError, ImportError) as error:
        raise ConfigurationError(
            f"{path}: a class that it names cannot be imported: {error}"
        ) from error


def app_settings(config: Any) -> AppSettings:
    """The application's settings: `args:` of a loaded config."""
    return AppSettings.model_validate(config.applications[0].args)


def _only_application(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    applications = raw.get("applications")
    if not isinstance(applications, list) or len(applications) != 1:
        raise ConfigurationError(f"{path}: applications: expected a list of exactly one")
    application = applications[0]
    if not isinstance(application, dict) or application.get("import_path") != IMPORT_PATH:
        raise ConfigurationError(f"{path}: applications.0.import_path: expected {IMPORT_PATH}")
    if not isinstance(application.get("args"), dict):
        raise ConfigurationError(f"{path}: applications.0.args: expected a mapping")
    return application


def _reject_unknown_keys(node: Any, schema: type[BaseModel], where: str, path: Path) -> None:
    for item in node if isinstance(node, list) else []:
        _reject_unknown_keys(item, schema, where, path)
    for key, value in node.items() if isinstance(node, dict) else []:
        here = f"{where}.{key}" if where else str(key)
        if key not in schema.model_fields:
            raise ConfigurationError(f"{path}: unknown key {here}")
        below = _model_in(schema.model_fields[key].annotation)
        if below is not None:  # None: a mapping of any keys, such as args, which AppSettings checks
            _reject_unknown_keys(value, below, here, path)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model in a field's annotation, also inside lists, unions and optionals."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _check_policy(config: Any, path: Path) -> None:
    """Check the policy's arguments now, not only when Serve's controller creates the policy."""
    generator = next(
        each for each in config.applications[0].deployments if each.name == "Generator"
    )
    if generator.autoscaling_config in (None, DEFAULT.VALUE):
        return
    where = "applications.0.deployments.Generator.autoscaling_config"
    policy = _validated(AutoscalingConfig, generator.autoscaling_config, where, path).policy
    if policy.policy_function == LOAD_POLICY:
        _validated(EngineLoadSettings, policy.policy_kwargs, f"{where}.policy.policy_kwargs", path)


def _check_times(config: Any, limits: LimitSettings, path: Path) -> None:
    """Check that Serve's timeouts, in its proxy and for stopping a replica, are not below our limits."""
    deadline_s = limits.request_timeout_s
    # Serve's time for a request starts with its first byte; ours starts when the body is complete.
    slowest_body_s = limits.body_timeout_s + limits.max_body_bytes / limits.min_body_bytes_per_s
    proxy_s = config.http_options.request_timeout_s
    if proxy_s is not None and proxy_s <= slowest_body_s + deadline_s:
        raise ConfigurationError(
            f"{path}: http_options.request_timeout_s: {proxy_s} s; Serve would answer 408 to a request whose "
            f"body may take {slowest_body_s:.0f} s (limits.body_timeout_s, max_body_bytes and "
            f"min_body_bytes_per_s) and its answer {deadline_s} s (limits.request_timeout_s)"
        )
    for each in config.applications[0].deployments:
        drain_s = each.graceful_shutdown_timeout_s
        if drain_s == DEFAULT.VALUE:
            drain_s = DEFAULT_GRACEFUL_SHUTDOWN_TIMEOUT_S
        if drain_s < deadline_s:
            raise ConfigurationError(
                f"{path}: applications.0.deployments.{each.name}.graceful_shutdown_timeout_s: {drain_s} s; "
                f"a replica that is replaced or scaled down may need {deadline_s} s "
                "(limits.request_timeout_s) for what it has begun"
            )


def _check_deployments(application: dict[str, Any], path: Path) -> None:
    """Check that every deployment is listed: others would have Serve's defaults, such as unlimited queues."""
    deployments = application.get("deployments")
    if not isinstance(deployments, list) or not all(isinstance(d, dict) for d in deployments):
        raise ConfigurationError(f"{path}: applications.0.deployments: expected a list of mappings")
    names = sorted(str(deployment.get("name")) for deployment in deployments)
    if names != sorted(DEPLOYMENT_NAMES):
        expected = ", ".join(sorted(DEPLOYMENT_NAMES))
        raise ConfigurationError(
            f"{path}: applications.0.deployments: found {', '.join(names)}; expected {expected}"
        )
