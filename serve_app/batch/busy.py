"""Measures how busy CPU, engine and GPU are: cumulative pairs of busy and elapsed seconds."""

import os
import threading
import time
from pathlib import Path

from serve_app.batch.rows import BusyTimes

GPU_PAUSE_S = 0.5
IDLE_FIELDS = (3, 4)  # of /proc/stat's first line: idle, iowait


def cpu_busy() -> dict[str, tuple[float, float]]:
    """Busy and elapsed core-seconds since boot, summed over all cores of this machine."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = sum(ticks[field] for field in IDLE_FIELDS)
    per_s = os.sysconf("SC_CLK_TCK")
    return {f"cpu {os.uname().nodename}": ((sum(ticks) - idle) / per_s, sum(ticks) / per_s)}


class EngineBusy:
    """Measures how long at least one row was inside the engine, and how busy the GPU was if there is one."""

    def __init__(self) -> None:
        self._started = self._since = time.monotonic()
        self._num_inside = 0
        self._busy_s = 0.0
        self._gpu = _watch_gpu()

    def enter(self) -> None:
        self._advance()
        self._num_inside += 1

    def leave(self) -> None:
        self._advance()
        self._num_inside -= 1

    def read(self) -> BusyTimes:
        self._advance()
        here = f"{os.uname().nodename} {os.getpid()}"
        busy = {f"engine {here}": (self._busy_s, self._since - self._started)}
        return busy | ({f"gpu {here}": self._gpu.read()} if self._gpu else {}) | cpu_busy()

    def _advance(self) -> None:
        now = time.monotonic()
        self._busy_s += (now - self._since) * (self._num_inside > 0)
        self._since = now


class _GpuBusy:
    """Integrates the driver's utilisation gauge: the share of time in which the GPU ran a kernel."""

    def __init__(self, nvml: object, handle: object) -> None:
        self._nvml, self._handle = nvml, handle
        self._started = time.monotonic()
        self._busy_s = 0.0
        threading.Thread(target=self._watch, daemon=True).start()

    def read(self) -> tuple[float, float]:
        return self._busy_s, time.monotonic() - self._started

    def _watch(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(GPU_PAUSE_S)
            now = time.monotonic()
            share = self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100  # type: ignore[attr-defined]
            self._busy_s += share * (now - last)
            last = now


def _watch_gpu() -> _GpuBusy | None:
    """Starts watching the first GPU that this process may use; None if there is none."""
    try:
        from vllm.third_party import pynvml

        pynvml.nvmlInit()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(visible or 0))
    except Exception:
        return None  # no driver, or CUDA_VISIBLE_DEVICES is not an index: the summary then has no GPU figure
    return _GpuBusy(pynvml, handle)
