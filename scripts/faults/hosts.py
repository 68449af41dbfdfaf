"""Hosts of a Ray cluster on one machine: network namespaces on a bridge that can be killed and cut off.

Needs root, iproute2 and util-linux. Each host has its own network, its own name and its own /dev/shm.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

NETWORK = "10.213.77"
RAY_PORT = 6379
START_TIMEOUT_S = 120.0
STARTED = "Ray runtime started"
# A lost host is noticed in seconds; a drained one gets time to finish, as on Kubernetes.
ENVIRONMENT = {
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_period_ms": "1000",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "120",
}


@dataclass
class Host:
    """One namespace; host 0 is the head."""

    number: int
    prefix: str  # prefix of the names of namespaces and links, unique for each run
    log_folder: Path
    _ray: subprocess.Popen[bytes] | None = None
    _log_begins: int = 0  # where the log of its current Ray begins

    @property
    def name(self) -> str:
        return f"{self.prefix}{self.number}"

    @property
    def _log(self) -> Path:
        return self.log_folder / f"{self.name}.log"

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number + 1}"

    def create(self) -> None:
        outside, inside = f"{self.name}o", f"{self.name}i"
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
        run("ip", "link", "set", inside, "netns", self.name)
        run("ip", "link", "set", outside, "master", f"{self.prefix}b", "up")
        self._inside("ip", "addr", "add", f"{self.address}/24", "dev", inside)
        self._inside("ip", "link", "set", inside, "up")
        self._inside("ip", "link", "set", "lo", "up")

    def start_ray(self) -> None:
        """Runs `ray start --block`, as the supervisor of a real host does whenever Ray has ended."""
        ray = str(Path(sys.executable).parent / "ray")
        command = [ray, "start", "--block", "--disable-usage-stats", "--num-cpus=4"]
        command += [f"--node-ip-address={self.address}", f"--object-store-memory={256 << 20}"]
        if self.number == 0:
            command += ["--head", f"--port={RAY_PORT}", "--include-dashboard=false"]
            command += ['--resources={"front": 100}']
        else:
            command += [f"--address={NETWORK}.1:{RAY_PORT}", "--num-gpus=1"]
        self._log.touch()
        self._log_begins = len(self._log.read_text())
        own = f'mount -t tmpfs tmpfs /dev/shm && hostname {self.name} && exec "$@"'
        unshared = ["ip", "netns", "exec", self.name, "unshare", "--mount", "--uts"]
        self._ray = self._start([*unshared, "sh", "-c", own, "sh", *command])

    def start(self, *command: str) -> None:
        """Runs a command on the host, beside its Ray."""
        assert self._ray is not None, "Ray was started"
        self._start(["nsenter", f"--target={self._ray.pid}", "--mount", "--uts", "--net", *command])

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._log.open("a") as log:
            environment = os.environ | ENVIRONMENT
            return subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=environment
            )

    @property
    def is_up(self) -> bool:
        """Whether its Ray is running. Ray ends by itself if it is cut off for too long."""
        return self._ray is not None and self._ray.poll() is None

    @property
    def has_joined(self) -> bool:
        """Whether its current Ray has logged this text."""
        return STARTED in self._log.read_text()[self._log_begins :]

    def runs(self, name: str) -> bool:
        """Whether a process with this name is running on the host."""
        return any(name in _command_line(pid) for pid in self._pids())

    def kill(self) -> None:
        """Kills everything on the host at once."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def terminate(self) -> None:
        """Sends SIGTERM to its Ray, which drains and then ends, as Kubernetes does with a pod."""
        assert self._ray is not None, "Ray was started"
        self._ray.terminate()

    def _pids(self) -> list[int]:
        command = ["ip", "netns", "pids", self.name]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        return list(map(int, found.stdout.split()))

    def cut_off(self) -> None:
        """Cuts off its network; what runs there keeps running."""
        run("ip", "link", "set", f"{self.name}o", "down")

    def reconnect(self) -> None:
        run("ip", "link", "set", f"{self.name}o", "up")

    def _inside(self, *command: str) -> None:
        run("ip", "netns", "exec", self.name, *command)


@contextmanager
def running_hosts(num_workers: int, log_folder: Path) -> Iterator[list[Host]]:
    """Starts the head, and workers that declare a GPU without having one. Removes all when the block ends."""
    prefix = f"el{os.getpid() % 10_000}"
    hosts = [Host(number, prefix, log_folder) for number in range(num_workers + 1)]
    with ExitStack() as stack:
        run("ip", "link", "add", f"{prefix}b", "type", "bridge")
        stack.callback(run, "ip", "link", "del", f"{prefix}b")
        run("ip", "link", "set", f"{prefix}b", "up")
        run("ip", "addr", "add", f"{NETWORK}.254/24", "dev", f"{prefix}b")  # for the clients
        for host in hosts:
            host.create()
            stack.callback(run, "ip", "netns", "del", host.name)
            stack.callback(host.kill)
        for host in hosts:
            _start(host)
        yield hosts


def _start(host: Host) -> None:
    """Returns when its Ray has joined. Restarts a Ray that gives up, as nodes that start at once may."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if not host.is_up:
            host.start_ray()
        if host.has_joined:
            return
        time.sleep(0.5)
    raise TimeoutError(f"Ray does not start on {host.name}; its log is in {host.log_folder}")


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""  # the process has ended meanwhile


def run(*command: str) -> None:
    """Raises CalledProcessError."""
    subprocess.run(command, check=True, capture_output=True)
