"""Checks this machine: cores, memory, /dev/shm, GPUs, and the folder for Ray's sockets."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from serve_app.doctor.finding import Finding, ok, problem, warning
from serve_app.doctor.software import installed_engine
from serve_app.ray_start import LOCAL_OBJECT_STORE_BYTES, MIN_LOCAL_CPUS
from serve_app.settings import MIB

MIN_MEMORY_BYTES = 4096 * MIB  # Ray's processes, two decode workers and an engine without its model
MAX_SOCKET_CHARS = 107  # the kernel's limit on the path of a Unix socket
# The longest socket path below Ray's folder; a process id has up to seven digits.
SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
HUB_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def check_machine(weights_bytes: int = 0) -> Iterator[Finding]:
    """Checks this machine. `weights_bytes` is the size of the model that the CPU or the GPUs must hold."""
    yield _check_cores()
    gpus = find_gpus()
    yield _check_memory(0 if isinstance(gpus, list) and gpus else weights_bytes)
    yield _check_shared_memory()
    yield from _check_gpus(gpus)
    yield check_temporary_folder()
    yield _check_hub()


def _check_cores() -> Finding:
    num_cores = len(os.sched_getaffinity(0))
    if num_cores >= MIN_LOCAL_CPUS:
        return ok("cores", str(num_cores))
    advice = "give it more cores, or expect clips to wait for the engine"
    return warning("cores", f"{num_cores}; configs/serve.yaml expects {MIN_LOCAL_CPUS}", advice)


def _check_memory(weights_bytes: int) -> Finding:
    free, needed = _free_memory_bytes(), MIN_MEMORY_BYTES + weights_bytes
    seen = f"{free // MIB} MiB free"
    if free >= needed:
        return ok("memory", seen)
    advice = "free some, or use a smaller model: the kernel ends processes when it runs out"
    return warning("memory", f"{seen}; the server may need {needed // MIB} MiB", advice)


def _free_memory_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    free = kilobytes["MemAvailable"] * 1024
    try:
        limit = int(MEMORY_LIMIT.read_text())
        used = int(MEMORY_LIMIT.with_name("memory.current").read_text())
    except (OSError, ValueError):  # not in a container, or in one without a limit
        return free
    return min(free, limit - used)


def _check_shared_memory() -> Finding:
    free = shutil.disk_usage("/dev/shm").free
    seen = f"{free // MIB} MiB free"
    if free >= LOCAL_OBJECT_STORE_BYTES:
        return ok("/dev/shm", seen)
    advice = "Ray falls back to the disk: docker run --shm-size=2g, or an emptyDir of medium Memory"
    needed = LOCAL_OBJECT_STORE_BYTES // MIB
    return warning("/dev/shm", f"{seen}; Ray's object store has {needed} MiB", advice)


def find_gpus() -> list[str] | str:
    """Name, driver and memory of each GPU, empty if there is none; an error text if nvidia-smi fails."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total"]
    try:
        listed = subprocess.run(
            [*command, "--format=csv,noheader"], capture_output=True, timeout=30
        )
    except FileNotFoundError:
        return []
    except subprocess.TimeoutExpired:
        return "nvidia-smi did not answer within 30 s"
    text = listed.stdout.decode(errors="replace").strip()
    return text.splitlines() if listed.returncode == 0 else text or "nvidia-smi failed"


def _check_gpus(gpus: list[str] | str) -> Iterator[Finding]:
    if isinstance(gpus, str):
        yield problem("GPU", gpus, "repair the driver: nvidia-smi must list the GPUs")
        return
    installed = installed_engine()
    if not gpus and installed == "gpu":
        advice = "give the container its GPUs (docker run --gpus all), or install the extra cpu"
        yield problem("GPU", "none, and vLLM's build for GPUs is installed", advice)
    elif gpus and installed == "cpu":
        advice = "run scripts/setup.sh here, or install the extra gpu"
        yield warning("GPU", f"{len(gpus)}, and vLLM's build for CPUs is installed", advice)
    elif not gpus:
        yield ok("GPU", "none; vLLM runs on the CPU")
    for gpu in gpus:
        yield ok("GPU", gpu)


def check_temporary_folder() -> Finding:
    """Checks the temporary folder. Ray puts its sockets there, and if the path is too long it fails with
    `AF_UNIX path length cannot exceed 107 bytes`."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    num_chars = len(os.path.join(folder, SOCKET))
    if num_chars > MAX_SOCKET_CHARS:
        seen = f"{folder}: socket paths would have {num_chars} characters; the limit is {MAX_SOCKET_CHARS}"
        return problem("temporary folder", seen, "set RAY_TMPDIR to a short path, such as /tmp/r")
    if not os.access(folder, os.W_OK):
        return problem("temporary folder", f"{folder} cannot be written", "set RAY_TMPDIR")
    return ok("temporary folder", folder)


def _check_hub() -> Finding:
    found = [name for name in HUB_VARIABLES if os.environ.get(name)]
    if not found:
        return ok("Hugging Face", "no token needed: nothing is fetched from a hub")
    advice = "unset it for the server: it is a secret that nothing needs"
    return warning("Hugging Face", f"{', '.join(found)} is set; nothing is fetched", advice)
