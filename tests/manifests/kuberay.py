"""The part of KubeRay's objects that cluster/ uses, as strict models. The whole of them: test_crds.py."""

from functools import cache
from typing import Annotated, Literal

import yaml
from manifests.kubernetes import (
    ContainerSecurity,
    Metadata,
    PodTemplate,
    Positive,
    ResourceRequirements,
    Strict,
)
from manifests.serve_configs import check_serve_config
from pydantic import AfterValidator, Field, model_validator

Percent = Annotated[int, Field(gt=0, le=100)]
Count = Annotated[int, Field(ge=0)]


@cache
def _options_of_ray_start() -> frozenset[str]:
    from ray.scripts.scripts import start

    return frozenset(option.lstrip("-") for each in start.params for option in each.opts)


def _check_ray_start(params: dict[str, str]) -> dict[str, str]:
    unknown = params.keys() - _options_of_ray_start()
    if unknown:
        raise ValueError(f"`ray start` has no {', '.join(sorted(unknown))}")
    return params


@cache
def _check_serve_text(text: str) -> str:
    check_serve_config(yaml.safe_load(text))
    return text


RayStartParams = Annotated[dict[str, str], AfterValidator(_check_ray_start)]


class AuthOptions(Strict):
    mode: Literal["token", "disabled"]


class AutoscalerOptions(Strict):
    version: Literal["v2"]
    upscalingMode: Literal["Default", "Aggressive", "Conservative"]
    idleTimeoutSeconds: Positive
    resources: ResourceRequirements
    securityContext: ContainerSecurity


class HeadGroup(Strict):
    rayStartParams: RayStartParams
    template: PodTemplate


class WorkerGroup(Strict):
    groupName: str
    replicas: Count
    minReplicas: Count
    maxReplicas: Positive
    idleTimeoutSeconds: Positive | None = None
    rayStartParams: RayStartParams
    template: PodTemplate

    @model_validator(mode="after")
    def _starts_within_its_bounds(self) -> "WorkerGroup":
        if not self.minReplicas <= self.replicas <= self.maxReplicas:
            raise ValueError("expected minReplicas <= replicas <= maxReplicas")
        return self


class RayClusterSpec(Strict):
    rayVersion: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    authOptions: AuthOptions | None = None
    enableInTreeAutoscaling: bool = False
    autoscalerOptions: AutoscalerOptions | None = None
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]


class ClusterUpgradeOptions(Strict):
    gatewayClassName: str
    maxSurgePercent: Percent
    stepSizePercent: Percent
    intervalSeconds: Positive


class UpgradeStrategy(Strict):
    type: Literal["NewClusterWithIncrementalUpgrade"]
    clusterUpgradeOptions: ClusterUpgradeOptions


class RayServiceSpec(Strict):
    upgradeStrategy: UpgradeStrategy
    rayClusterDeletionDelaySeconds: Positive
    excludeHeadPodFromServeSvc: bool
    rayClusterConfig: RayClusterSpec
    serveConfigV2: Annotated[str, AfterValidator(_check_serve_text)]

    @model_validator(mode="after")
    def _can_upgrade_in_steps(self) -> "RayServiceSpec":
        if not self.rayClusterConfig.enableInTreeAutoscaling:
            raise ValueError("an incremental upgrade needs enableInTreeAutoscaling")
        return self


class RayService(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayService"]
    metadata: Metadata
    spec: RayServiceSpec


class RayJobSpec(Strict):
    entrypoint: str
    backoffLimit: Count
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: Count
    submitterPodTemplate: PodTemplate
    rayClusterSpec: RayClusterSpec


class RayJob(Strict):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: RayJobSpec
