"""cluster/Dockerfile, which no test builds: what it names exists, its versions are the set-up's."""

import re
import shlex
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest
from manifests.files import CLUSTER, ROOT, load
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from serve_app import proxy, server
from serve_app.settings import LimitSettings

EXTRAS = ("cpu", "gpu")
PINNED_IMAGE = re.compile(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}")
INSTRUCTIONS = {"ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "CMD"}


@dataclass
class Stage:
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [value for name, value in self.steps if name == instruction]


def parse(text: str) -> dict[str, Stage]:
    """The stages by their names; what stands before the first one is the stage ''."""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    stages = {"": Stage(base="")}
    current = stages[""]
    for step in filter(None, re.sub(r"\\\n", "", "\n".join(lines)).splitlines()):
        instruction, _, value = step.partition(" ")
        assert instruction in INSTRUCTIONS, step
        if instruction == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", value).groups()  # type: ignore[union-attr]
            current = stages[name] = Stage(base)
        else:
            current.steps.append((instruction, value.strip()))
    return stages


STAGES = parse((CLUSTER / "Dockerfile").read_text())


def arguments(stage: str) -> dict[str, str]:
    return dict(value.split("=", 1) for value in STAGES[stage].all("ARG"))


def environment(stage: str) -> dict[str, str]:
    pairs = [pair for value in STAGES[stage].all("ENV") for pair in shlex.split(value)]
    return dict(pair.split("=", 1) for pair in pairs)


def requirements(extra: str) -> dict[str, str]:
    lines = (CLUSTER / f"requirements.{extra}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_targets_are_gpu_and_cpu_on_one_base() -> None:
    assert set(STAGES) == {"", "base", *EXTRAS}
    assert all(STAGES[extra].base == "base" for extra in EXTRAS)


def test_the_base_image_is_pinned_by_its_digest() -> None:
    assert STAGES["base"].base == "${PYTHON_IMAGE}"
    assert PINNED_IMAGE.fullmatch(arguments("")["PYTHON_IMAGE"])


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_is_copied_exists_and_reaches_the_builder(extra: str) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    sources = [each for value in STAGES[extra].all("COPY") for each in value.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in allowed), source
    assert "*" in lines, "what is not named stays out: no clone, no checkpoint, no .venv"


@pytest.mark.parametrize("extra", EXTRAS)
def test_it_does_not_run_as_root(extra: str) -> None:
    (user,) = STAGES[extra].all("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number: Kubernetes cannot look a name up"
    last = [name for name, _ in STAGES[extra].steps]
    assert last.index("USER") > max(i for i, name in enumerate(last) if name == "RUN")


def test_the_user_is_the_one_of_the_pods() -> None:
    (service,) = load(CLUSTER / "rayservice.yaml")
    pod = service["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]
    number = pod["securityContext"]["runAsUser"]
    assert any(f"--uid {number} " in step for step in STAGES["base"].all("RUN"))


def test_home_is_where_the_pods_mount_it_and_ray_up_puts_the_token() -> None:
    assert environment("base")["HOME"] == "/home/ray"
    assert any("--create-home ray" in step for step in STAGES["base"].all("RUN"))


def test_the_image_has_what_ray_up_copies_with() -> None:
    """rsync into a container, by `docker exec`; from the head's also over ssh."""
    (install,) = (step for step in STAGES["gpu"].all("RUN") if "apt-get install" in step)
    assert {"rsync", "openssh-client"} <= set(install.split())


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_download_is_pinned(extra: str) -> None:
    for step in STAGES[extra].all("RUN"):
        for install in re.findall(r"pip install [^&]+", step):
            assert "--no-deps" in install, install
            named = shlex.split(install)[2:]
            assert any(each in named for each in (".", "--requirement")) or "==" in install
    assert all(version for version in requirements(extra).values())


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_list_satisfies_the_package(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    found = {canonicalize_name(name): version for name, version in requirements(extra).items()}
    if extra == "cpu":
        found[canonicalize_name("torch")] = arguments("cpu")["TORCH"]
    for line in [*project["dependencies"], *optional[extra], *optional["batch"]]:
        wanted = Requirement(line)
        version = found[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{line}: the image has {version}"


def test_torch_comes_as_the_setup_has_it() -> None:
    setup = (ROOT / "scripts" / "setup.sh").read_text()
    for name, value in arguments("cpu").items():
        assert f"\n{name}={value}\n" in setup
    assert requirements("gpu")["torch"] == arguments("cpu")["TORCH"]


def test_both_images_make_one_cluster() -> None:
    cpu, gpu = requirements("cpu"), requirements("gpu")
    differ = {name for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]}
    # Objects of one must be readable in the other; these make none.
    assert differ <= {"apache-tvm-ffi", "setuptools", "triton"}


def test_ray_finds_in_its_environment_what_our_own_command_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = environment("base")
    ours: dict[str, str] = {}
    monkeypatch.setattr("os.environ", ours)
    server._prepare_serve_environment(LimitSettings())
    assert ours.items() <= image.items()
    assert image[proxy.MAX_BODY_BYTES_VARIABLE] == str(LimitSettings().max_body_bytes)
    assert image["PYTHONUNBUFFERED"] == "1"


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_no_config_has_another_body_limit_than_the_image(path: Path) -> None:
    (config,) = load(path)
    limits = config["applications"][0]["args"].get("limits", {})
    limit = limits.get("max_body_bytes", LimitSettings().max_body_bytes)
    assert str(limit) == environment("base")[proxy.MAX_BODY_BYTES_VARIABLE]
