"""Requests per second over time: a day, a flash crowd, a burst of batch work."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DAY_S = 86_400.0
PEAK_TO_MEAN = 1.8  # the afternoon's rate / the day's mean


def constant(times_s: Floats, mean_rate: float) -> Floats:
    """A constant rate."""
    return np.full(len(times_s), mean_rate)


def diurnal(times_s: Floats, mean_rate: float) -> Floats:
    """A sine over the day: quiet at four in the morning, 1.8 times the mean at four in the afternoon."""
    swing = (PEAK_TO_MEAN - 1) * np.sin(2 * np.pi * (times_s - 10 * 3600) / DAY_S)
    return np.asarray(mean_rate * (1 + swing))


def flash_crowd(times_s: Floats, mean_rate: float) -> Floats:
    """A day with a flash crowd at noon: three times the rate within a minute, for 20 minutes, then fading."""
    since_s = times_s - 12 * 3600
    rise = np.clip(since_s / 60, 0, 1)
    fade = np.exp(-np.clip(since_s - 1200, 0, None) / 600)
    return np.asarray(diurnal(times_s, mean_rate) * (1 + 2 * rise * fade * (since_s > 0)))


def batch_burst(times_s: Floats, mean_rate: float) -> Floats:
    """A quiet day with half of the clips; the other half comes within two hours from 2 in the morning."""
    burst = (times_s >= 2 * 3600) & (times_s < 4 * 3600)
    return np.asarray(0.5 * diurnal(times_s, mean_rate) + 0.5 * mean_rate * 12 * burst)


TRAFFIC: dict[str, Callable[[Floats, float], Floats]] = {
    "constant": constant,
    "diurnal": diurnal,
    "flash": flash_crowd,
    "batch": batch_burst,
}


def arrivals(rates: Floats, step_s: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """The number of requests in each step, drawn from a Poisson distribution."""
    return rng.poisson(rates * step_s)
