"""cluster/ray-up.yaml and cluster/values.yaml: the keys that they use, as strict models."""

from typing import Annotated, Any, Literal

from manifests.kubernetes import HostName, Labels, Positive, ResourceRequirements, Strict
from pydantic import Field


class Provider(Strict):
    type: Literal["local"]
    head_ip: HostName
    worker_ips: Annotated[list[HostName], Field(min_length=1)]


class Auth(Strict):
    ssh_user: str
    ssh_private_key: str


class Docker(Strict):
    image: str
    container_name: str
    pull_before_run: bool
    run_options: list[str]
    worker_run_options: list[str]


class RayUp(Strict):
    cluster_name: str
    provider: Provider
    auth: Auth
    min_workers: Positive
    max_workers: Positive
    upscaling_speed: float
    idle_timeout_minutes: Positive
    docker: Docker
    file_mounts: dict[Literal["~/.ray/auth_token"], str]
    initialization_commands: list[str]
    setup_commands: list[str]
    head_setup_commands: list[str]
    worker_setup_commands: list[str]
    head_start_ray_commands: list[str]
    worker_start_ray_commands: list[str]


def check_ray_up(config: dict[str, Any]) -> None:
    """By our model, and by what `ray up` itself does with the file before it starts anything."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    RayUp.model_validate(config)
    validate_config(prepare_config(config))


class Image(Strict):
    tag: Annotated[str, Field(pattern=r"^v\d+\.\d+\.\d+$")]


class FeatureGate(Strict):
    name: Literal[
        "RayClusterStatusConditions",
        "RayServiceIncrementalUpgrade",
        "RayJobDeletionPolicy",
        "RayMultiHostIndexing",
    ]
    enabled: bool


class ServiceMonitor(Strict):
    enabled: bool
    additionalLabels: Labels


class Metrics(Strict):
    serviceMonitor: ServiceMonitor


class OperatorValues(Strict):
    """Of the chart kuberay-operator."""

    image: Image
    featureGates: list[FeatureGate]
    resources: ResourceRequirements
    metrics: Metrics
