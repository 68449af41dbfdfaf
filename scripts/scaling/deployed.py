"""Reads from a serve.yaml what the simulation needs to know about the Generator and the ingress."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.serve.config import AutoscalingConfig

from scaling.fleet import FleetSettings
from serve_app.serve_config import app_settings, load_serve_config
from serve_app.settings import EngineLoadSettings


@dataclass(frozen=True)
class Deployed:
    """Settings of the fleet, of Serve's autoscaler, and of the engine-load policy."""

    fleet: FleetSettings
    autoscaling: AutoscalingConfig
    policy: EngineLoadSettings


def read_deployed(
    path: Path,
    start_s: float,
    min_replicas: int | None = None,
    max_replicas: int | None = None,
    max_num_seqs: int | None = None,
    policy_kwargs: dict[str, Any] | None = None,
) -> Deployed:
    """Reads the file. Arguments that are given replace its numbers, and numbers proportional to them follow.

    Args:
        start_s: from the decision to a new replica's first request.

    Raises:
        ConfigurationError: the file is not valid.
        ValueError: it scales no Generator or no ingress.
    """
    config = load_serve_config(path)
    settings = app_settings(config)
    deployments = {each.name: each for each in config.applications[0].deployments}
    generator, ingress = deployments["Generator"], deployments["Ingress"]
    if not (generator.is_autoscaling_configured() and ingress.is_autoscaling_configured()):
        raise ValueError(f"{path}: Generator and Ingress need an autoscaling_config")
    given = generator.autoscaling_config
    given_kwargs = given.get("policy", {}).get("policy_kwargs", {})
    policy = EngineLoadSettings.model_validate(given_kwargs | (policy_kwargs or {}))
    num_seqs = max_num_seqs or settings.engine.max_num_seqs
    max_ongoing = generator.max_ongoing_requests * num_seqs // settings.engine.max_num_seqs
    most = max_replicas or given["max_replicas"]
    ingress_share = ingress.autoscaling_config["max_replicas"] / given["max_replicas"]
    bounds = {
        "min_replicas": given["min_replicas"] if min_replicas is None else min_replicas,
        "max_replicas": most,
        "target_ongoing_requests": policy.target_seqs_share * num_seqs,
    }
    return Deployed(
        FleetSettings(
            max_replicas=most,
            start_s=start_s,
            max_num_seqs=num_seqs,
            max_ongoing_requests=max_ongoing,
            num_ingress_replicas=math.ceil(ingress_share * most),
            max_queued_requests=generator.max_queued_requests,
            max_in_flight=settings.limits.max_in_flight,
            request_timeout_s=settings.limits.request_timeout_s,
        ),
        AutoscalingConfig.model_validate(given | bounds),
        policy,
    )
