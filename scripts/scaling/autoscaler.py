"""Simulates Serve's autoscaler around a policy: its contexts, delays and bounds, in simulated time."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from ray.serve.autoscaling_policy import (
    _apply_delay_logic,
    _apply_scaling_factors,
    _get_cold_start_scale_up_replicas,
)
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from scaling.fleet import READY, Fleet

DECISION_S = 10.0  # how often replicas and handles report to Serve's controller
RECORD_SHARE = 0.2  # they record their load every look_back_period_s times this

Policy = Callable[[AutoscalingContext], tuple[float, dict[str, Any]]]


class Autoscaler:
    """Observes a fleet after every step, and scales it every ten seconds."""

    def __init__(self, policy: Policy, config: AutoscalingConfig) -> None:
        self._policy, self._config = policy, config
        self._state: dict[str, Any] = {}
        self._samples: deque[tuple[Any, ...]] = deque()

    def look(self, fleet: Fleet) -> None:
        """Records the load and makes a decision when it is time to."""
        record_s = self._config.look_back_period_s * RECORD_SHARE
        if fleet.now % max(1, round(record_s / fleet.step_s)) == 0:
            sample = fleet.now, fleet.num_running.copy(), fleet.num_waiting.copy(), fleet.num_queued
            self._samples.append(sample)
            oldest = fleet.now - round(self._config.look_back_period_s / fleet.step_s)
            while self._samples[0][0] <= oldest:
                self._samples.popleft()
        if fleet.now % round(DECISION_S / fleet.step_s) == 0:
            fleet.scale(self._decide(self._context(fleet), fleet.now * fleet.step_s))

    def _decide(self, context: AutoscalingContext, now_s: float) -> int:
        """Does what ray.serve.autoscaling_policy._apply_autoscaling_config does, but with simulated time."""
        wanted = _get_cold_start_scale_up_replicas(context)
        if wanted is None:
            asked, _ = self._policy(context)
            wanted = _apply_scaling_factors(asked, context.current_num_replicas, context.config)
            if context.current_num_replicas > 0 or wanted <= 0:
                wanted, self._state = _apply_delay_logic(
                    max(0, wanted), context.target_num_replicas, self._config, self._state, now_s
                )
        return int(min(max(wanted, self._config.min_replicas), self._config.max_replicas))

    def _context(self, fleet: Fleet) -> AutoscalingContext:
        ready = np.flatnonzero(fleet.state == READY)
        times = np.array([time for time, *_ in self._samples])
        seen = times[:, None] > fleet.ready_at[ready]
        # Each replica's mean over its records since it was ready; nothing before its first report.
        num_seen = np.maximum(seen.sum(axis=0), 1)
        running, waiting = (
            (np.array([sample[i][ready] for sample in self._samples]) * seen).sum(axis=0) / num_seen
            for i in (1, 2)
        )
        reported = fleet.now - fleet.ready_at[ready] >= round(DECISION_S / fleet.step_s)
        queued = float(np.mean([sample[3] for sample in self._samples]))
        names = ready.tolist()
        known: dict[str, Any] = dict.fromkeys(
            ("deployment_id", "app_name", "last_scale_up_time", "last_scale_down_time")
        )

        def of_reported(values: Any) -> dict[int, float]:
            return dict(zip(ready[reported].tolist(), values[reported].tolist(), strict=True))

        settings = fleet.settings
        return AutoscalingContext(
            **known,
            deployment_name="Generator",
            current_num_replicas=len(names),
            target_num_replicas=fleet.num_target,
            running_replicas=names,
            total_num_requests=queued + float((running + waiting).sum()),
            total_queued_requests=queued,
            aggregated_metrics=lambda: {
                "num_running": of_reported(running),
                "num_waiting": of_reported(waiting),
                "kv_cache_usage": of_reported(running / settings.num_seqs_in_kv_cache),
                "max_num_seqs": of_reported(np.full(len(ready), settings.max_num_seqs)),
            },
            raw_metrics=None,
            capacity_adjusted_min_replicas=self._config.min_replicas,
            capacity_adjusted_max_replicas=self._config.max_replicas,
            policy_state={},
            current_time=fleet.now * fleet.step_s,
            config=self._config,
        )
