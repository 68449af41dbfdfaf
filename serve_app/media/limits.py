"""What a decode process may take, and how it ends with the server it works for."""

import ctypes
import os
import resource
import signal
import threading
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
CPU_MARGIN_S = 2  # beyond the wall time, which the server enforces


def limit_process(memory_bytes: int) -> None:
    """Called once per worker, when everything it needs is imported."""
    end_with_server()
    # At once, even inside a decoder: a handler written in Python would wait for it to return.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    address_space = virtual_bytes() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))


def allow_cpu(seconds: float) -> None:
    """Called per clip, since the kernel counts from the start of the process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = usage.ru_utime + usage.ru_stime
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used_s + seconds) + CPU_MARGIN_S, hard))


def end_with_server() -> None:
    """Even in the middle of a clip, and even if the server is killed. Two parents are watched."""
    # The fork server is the parent to the kernel.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The server is the one to multiprocessing; libav lets this thread run while it decodes.
    threading.Thread(target=_await_server_end, daemon=True).start()


def _await_server_end() -> None:
    server = parent_process()
    assert server is not None, "limits are for workers"
    wait([server.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def virtual_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
