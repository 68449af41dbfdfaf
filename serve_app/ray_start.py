"""Connects to a running Ray cluster, or starts one on this machine for this process alone."""

import os

MIN_LOCAL_CPUS = 2  # our stages need as many together, even on a machine with one core
LOCAL_OBJECT_STORE_BYTES = 1 << 30  # a clip is 0.6 MB plus 32 kB per second


def prepare_ray_environment() -> None:
    """Set variables that Ray's processes read when they start. The operator's own values win."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Each request logs a line to a worker's output file, which would grow without limit.
    os.environ.setdefault("RAY_ROTATION_MAX_BYTES", str(100 << 20))
    os.environ.setdefault("RAY_ROTATION_BACKUP_COUNT", "3")


def start_ray(address: str | None, namespace: str, metrics_port: int | None = None) -> None:
    """Connect to a cluster, or start one.

    Args:
        address: address of a running cluster; None starts one that ends with `ray.shutdown`.
        metrics_port: metrics port of the started node; None: any free port.
    """
    import ray

    if address is not None:
        ray.init(address=address, namespace=namespace, log_to_driver=False)
        return
    ray.init(
        address="local",
        namespace=namespace,
        num_cpus=max(MIN_LOCAL_CPUS, len(os.sched_getaffinity(0))),
        object_store_memory=LOCAL_OBJECT_STORE_BYTES,
        include_dashboard=False,
        _metrics_export_port=metrics_port,
        log_to_driver=False,
        logging_level="error",
    )
