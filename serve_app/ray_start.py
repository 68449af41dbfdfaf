"""Connects to a running Ray cluster, or starts one on this machine for this process alone."""

import os

MIN_LOCAL_CPUS = 2  # what our stages ask for together, also on a machine with one core
LOCAL_OBJECT_STORE_BYTES = 1 << 30  # a clip is 0.6 MB plus 32 kB per second


def prepare_ray_environment() -> None:
    """Variables that Ray's processes read when they start; what the operator set wins."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Each request is a line of a worker's output, whose file would grow without an end.
    os.environ.setdefault("RAY_ROTATION_MAX_BYTES", str(100 << 20))
    os.environ.setdefault("RAY_ROTATION_BACKUP_COUNT", "3")


def start_ray(address: str | None, namespace: str, metrics_port: int | None = None) -> None:
    """`address` of a running cluster; None starts one that ends with `ray.shutdown`.

    Args:
        metrics_port: of the node that is started; None is any.
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
