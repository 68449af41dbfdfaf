"""The files of cluster/ and configs/, each with what holds it to its form."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from manifests.haproxy import check_patch
from manifests.kuberay import RayJob, RayService
from manifests.kubernetes import PersistentVolumeClaim, Pod, PodDisruptionBudget, Strict
from manifests.network import Gateway, HTTPRoute, NetworkPolicy, PodMonitor
from manifests.ray_up import OperatorValues, check_ray_up
from manifests.serve_configs import check_serve_config

ROOT = Path(__file__).parents[2]
CLUSTER, CONFIGS = ROOT / "cluster", ROOT / "configs"
FILES = sorted([*CLUSTER.glob("*.yaml"), *CONFIGS.glob("*.yaml")])

KINDS: dict[str, type[Strict]] = {
    kind.__name__: kind
    for kind in (
        Gateway,
        HTTPRoute,
        NetworkPolicy,
        PersistentVolumeClaim,
        Pod,
        PodDisruptionBudget,
        PodMonitor,
        RayJob,
        RayService,
    )
}


def load(path: Path) -> list[Any]:
    """The file's documents."""
    return list(yaml.safe_load_all(path.read_text()))


def with_haproxy(patch: Any) -> dict[str, Any]:
    """rayservice.yaml with the patch."""
    patched = check_patch(patch, load(CLUSTER / "rayservice.yaml")[0])
    RayService.model_validate(patched)
    return patched


def check(path: Path, document: Any) -> None:
    """One document of a file. Raises ValueError or ConfigurationError, with the path of what is wrong."""
    special: dict[str, Callable[[Any], Any]] = {
        "haproxy.patch.yaml": with_haproxy,
        "ray-up.yaml": check_ray_up,
        "values.yaml": OperatorValues.model_validate,
    }
    if path.parent == CONFIGS:
        check_serve_config(document)
    elif path.name in special:
        special[path.name](document)
    elif document.get("kind") in KINDS:
        KINDS[document["kind"]].model_validate(document)
    else:
        raise ValueError(f"{path.name}: unknown kind {document.get('kind')}")
