"""Autoscaling policy: how many Generator replicas Serve should run, by the load of their engines.

serve.yaml names `EngineLoadPolicy` in the Generator's `autoscaling_config.policy`. Serve's controller calls
it ten times a second or so and puts its own delays and bounds around it (docs/decisions/autoscaling.md).
"""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ray.serve.config import AutoscalingContext

from serve_app.settings import EngineLoadSettings
from serve_app.types import EngineLoad

EPSILON = 1e-9  # a mean over floats of exactly two replicas' worth must not ask for a third


class EngineLoadPolicy:
    """Serve creates one per deployment, with `policy_kwargs`. It keeps no state between calls."""

    def __init__(self, **settings: Any) -> None:
        self._settings = EngineLoadSettings.model_validate(settings)

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """The number of replicas wanted, and the state Serve should keep: none."""
        least, most = self._demand(context)
        wanted = self._step(least, most, context)
        bounds = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
        return min(max(wanted, bounds[0]), bounds[1]), {}

    def _demand(self, context: AutoscalingContext) -> tuple[float, float]:
        """The least and the greatest number of replicas that the load would fill to their targets.

        The two differ only while a replica has not reported yet. It may be idle, so it is no reason to
        grow; it may be full, so it stays.
        """
        loads = engine_loads(context)
        if not loads:  # Serve's own policy
            by_count = context.total_num_requests / context.config.get_target_ongoing_requests()
            return by_count, by_count
        demand = self._demand_of(loads, context.total_queued_requests or 0.0)
        return demand, demand + context.current_num_replicas - len(loads)

    def _demand_of(self, loads: Sequence[EngineLoad], num_queued: float) -> float:
        num_running = sum(load.num_running for load in loads)
        num_not_yet = sum(load.num_waiting for load in loads) + num_queued
        target_seqs = self._target_seqs(loads)
        busy = sum(self._share_of_rate(load.num_running) for load in loads)
        by_rate = busy / self._share_of_rate(target_seqs) + num_not_yet / target_seqs
        # What does not run yet will need as much of the cache as what runs.
        growth = 1 + num_not_yet / num_running if num_running else 1.0
        kv_cache_usage = sum(load.kv_cache_usage for load in loads) * growth
        return max(by_rate, kv_cache_usage / self._settings.target_kv_cache_usage)

    def _share_of_rate(self, num_running: float) -> float:
        """Fraction (0..1) of the engine's maximum throughput reached with `num_running` requests.

        Throughput is not linear in the batch size: a tenth of the batch reaches far more than a tenth.
        """
        return num_running / (num_running + self._settings.half_rate_seqs)

    def _target_seqs(self, loads: Sequence[EngineLoad]) -> float:
        """The number of requests a replica should have."""
        max_num_seqs = sum(load.max_num_seqs for load in loads) / len(loads)
        return self._settings.target_seqs_share * max_num_seqs

    def _step(self, least: float, most: float, context: AutoscalingContext) -> int:
        settings = self._settings
        target: int = context.target_num_replicas
        num_ready: int = context.current_num_replicas
        up = math.ceil(least - EPSILON)
        if up > target:
            # Relative to the running replicas, not to the target: a queue that grows while replicas start is
            # no reason to start more.
            limit = max(num_ready + 1, math.floor(num_ready * settings.max_upscale_factor))
            return max(target, min(up, limit))
        down = math.ceil(most / (1 - settings.tolerance) - EPSILON)
        if down < target:
            step = max(1, math.floor(target * settings.max_downscale_share))
            return max(down, target - step)
        return target


def engine_loads(context: AutoscalingContext) -> list[EngineLoad]:
    """Loads of the running replicas that have reported, averaged over the deployment's look-back period."""
    metrics = context.aggregated_metrics or {}
    names = [field.name for field in fields(EngineLoad)]
    reported = [metrics.get(name, {}) for name in names]
    return [
        EngineLoad(**{name: values[replica] for name, values in zip(names, reported, strict=True)})
        for replica in context.running_replicas
        if all(replica in values for values in reported)
    ]
