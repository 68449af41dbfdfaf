"""Tasks that hang, die or grow in a decode worker. Importable there by name."""

import os
import signal
import time
from pathlib import Path

HOARD: list[bytes] = []


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def spin(seconds: float) -> None:
    """One call into C that holds the interpreter's lock: no handler, no thread runs meanwhile."""
    sum(range(round(seconds * 1e8)))


def kill_itself(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def hoard() -> None:
    """Takes all the memory there is and does not give it back."""
    while True:
        HOARD.append(bytes(1 << 20))


def fail() -> None:
    raise RuntimeError("a bug")


def start_slowly() -> None:
    time.sleep(1.0)


def fail_to_start() -> None:
    raise OSError("no space left")


def start_if(marker: Path) -> None:
    if not marker.exists():
        fail_to_start()


def hang_unless(marker: Path) -> None:
    if not marker.exists():
        time.sleep(60.0)


def time_out() -> None:
    raise TimeoutError("the task's own")
