"""Measures how long Serve's controller takes for one decision of our policy, by number of replicas."""

import sys
import time

from ray.serve._private.autoscaling_state import DeploymentAutoscalingState
from ray.serve._private.common import DeploymentID, ReplicaID, ReplicaMetricReport, TimeStampedValue
from ray.serve.config import AutoscalingConfig

from serve_app.autoscaling import EngineLoadPolicy

LOAD = {"num_running": 32.0, "num_waiting": 0.0, "kv_cache_usage": 0.2, "max_num_seqs": 64.0}
NUM_ROUNDS = 20


def decision_ms(num_replicas: int) -> float:
    """Time for averaging every replica's reports over a look-back period and for running the policy."""
    deployment = DeploymentID("Generator", "emotion-llama")
    state = DeploymentAutoscalingState(deployment)
    state._config = AutoscalingConfig(max_replicas=num_replicas, look_back_period_s=15)
    state._policy = EngineLoadPolicy()
    replicas = [ReplicaID(str(number), deployment) for number in range(num_replicas)]
    state.update_running_replica_ids(replicas)
    now = time.time()
    for replica in replicas:
        series = {
            name: [TimeStampedValue(now - age_s, value) for age_s in (12, 9, 6, 3, 0)]
            for name, value in LOAD.items()
        }
        report = ReplicaMetricReport(replica_id=replica, timestamp=now, metrics=series)
        state.record_request_metrics_for_replica(report)
    started = time.perf_counter()
    for _ in range(NUM_ROUNDS):
        state.get_decision_num_replicas(num_replicas)
    return (time.perf_counter() - started) / NUM_ROUNDS * 1e3


if __name__ == "__main__":
    for num_replicas in (10, 100, 1000):
        print(f"{num_replicas:5} replicas: {decision_ms(num_replicas):.1f} ms a decision")
    sys.exit(0)
