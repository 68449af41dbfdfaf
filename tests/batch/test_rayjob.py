"""cluster/rayjob.yaml: its command is valid for this package."""

import shlex
from pathlib import Path

import yaml

from serve_app.cli import _parser

RAYJOB = Path(__file__).parents[2] / "cluster" / "rayjob.yaml"


def test_the_entrypoint_is_a_batch_that_resumes() -> None:
    job = yaml.safe_load(RAYJOB.read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    program, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert program == "emotion-llama"
    args = _parser().parse_args(arguments)
    assert args.resume, "a retry must not find the first one's parts in its way"


def test_every_group_has_the_model_and_the_data_where_the_entrypoint_looks() -> None:
    spec = yaml.safe_load(RAYJOB.read_text())["spec"]
    cluster = spec["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert set(mounted) == {"/models", "/data", "/tmp", "/home/ray"}
        assert set(mounted.values()) == {volume["name"] for volume in pod["volumes"]}


def test_ray_is_the_version_that_is_pinned() -> None:
    pinned = (RAYJOB.parents[1] / "pyproject.toml").read_text()
    version = yaml.safe_load(RAYJOB.read_text())["spec"]["rayClusterSpec"]["rayVersion"]
    assert f'"ray[serve]=={version}"' in pinned
