"""What a decode process may take, and how it ends with the server it works for."""

import os
import resource
import signal
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from serve_app.lifetime import die_with_parent

CPU_MARGIN_S = 2  # beyond the wall time, which the server enforces


def limit_process(memory_bytes: int) -> None:
    """Called once per worker, when everything it needs is imported."""
    end_with_server()
    # At once, even inside a decoder: a handler written in Python would wait for it to return.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    address_space = _allowed(resource.RLIMIT_AS, virtual_bytes() + memory_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))


def allow_cpu(seconds: float) -> None:
    """Called per clip, since the kernel counts from the start of the process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = usage.ru_utime + usage.ru_stime
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit_s = _allowed(resource.RLIMIT_CPU, int(used_s + seconds) + CPU_MARGIN_S)
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, hard))


def _allowed(limit: int, value: int) -> int:
    """No more than whoever started the server lets it have."""
    _, hard = resource.getrlimit(limit)
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def end_with_server() -> None:
    """Even in the middle of a clip, and even if the server is killed: the kernel sees to it."""
    # Our parent is the fork server. It ends when nobody holds this pipe any more, and each of its
    # children is given a copy; without ours, the server is the one it waits for.
    fork_server: Any = forkserver._forkserver
    os.close(fork_server._forkserver_alive_fd)
    die_with_parent()


def virtual_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
