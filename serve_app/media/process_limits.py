"""Limits the memory and CPU time of a decode process, and ends it with its server."""

import os
import resource
import signal
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from serve_app.lifetime import die_with_parent

CPU_MARGIN_S = 2  # added to the wall-time limit, which the server enforces


def limit_process(memory_bytes: int) -> None:
    """Limit this process. Called once per worker, after all imports."""
    end_with_server()
    # The default action ends the process even inside a decoder; a Python handler would wait for its return.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    address_space = _allowed(resource.RLIMIT_AS, virtual_bytes() + memory_bytes)
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))


def allow_cpu(seconds: float) -> None:
    """Allow this much more CPU time. Called per clip, since the kernel counts from the process's start."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = usage.ru_utime + usage.ru_stime
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit_s = _allowed(resource.RLIMIT_CPU, int(used_s + seconds) + CPU_MARGIN_S)
    resource.setrlimit(resource.RLIMIT_CPU, (limit_s, hard))


def _allowed(limit: int, value: int) -> int:
    """The value, capped by the hard limit that the server was started with."""
    _, hard = resource.getrlimit(limit)
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def end_with_server() -> None:
    """Have the kernel kill this process when the server ends, even if the server is killed."""
    # Our parent is the fork server, which ends when nobody holds this pipe open any more. Each of its
    # children inherits a copy; after closing ours, only the server keeps the fork server alive.
    fork_server: Any = forkserver._forkserver
    os.close(fork_server._forkserver_alive_fd)
    die_with_parent()


def virtual_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
