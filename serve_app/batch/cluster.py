"""Where a batch runs, a running cluster or a Ray of this machine's own, and how many actors it gets."""

from collections.abc import Iterator
from contextlib import contextmanager

from serve_app.batch.answering import AnsweredUnit
from serve_app.batch.manifest import Manifest
from serve_app.batch.options import Job
from serve_app.batch.pipeline import Actors, UnitSource, answered_units
from serve_app.errors import BatchFailedError
from serve_app.ray_start import prepare_ray_environment, start_ray

NAMESPACE = "emotion-llama-batch"
# Rows inside an engine per row it batches, so that one always waits to start.
ROWS_PER_SEQUENCE = 1.5
ENGINE_CPUS, DECODER_CPUS = 1.0, 0.5  # as in configs/serve.yaml: on few cores, they share them


@contextmanager
def answering_units(job: Job, manifest: Manifest, done: bytes) -> Iterator[Iterator[AnsweredUnit]]:
    """Raises BatchFailedError inside the block: an actor failed for good, or Ray did."""
    prepare_ray_environment()
    import ray
    from ray.data.exceptions import UserCodeException

    start_ray(job.address, NAMESPACE)
    try:
        source = UnitSource(manifest, done, job.defaults, job.settings)
        yield answered_units(source, job.settings, _actors(job))
    except (ray.exceptions.RayError, UserCodeException) as error:
        raise BatchFailedError(f"{_reason(error)}; --resume goes on") from error
    finally:
        ray.shutdown()


def _actors(job: Job) -> Actors:
    import ray

    resources = ray.cluster_resources()
    num_cpus, num_gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    engine, media = job.settings.engine, job.settings.media
    gpus_each = engine.tensor_parallel_size if num_gpus else 0
    num_engines = job.num_engines or max(1, num_gpus // (gpus_each or 1) if num_gpus else 1)
    num_decoders = job.num_decoders or num_engines
    wanted = num_engines * ENGINE_CPUS + num_decoders * media.num_decode_workers
    return Actors(
        num_decoders=num_decoders,
        decoder_cpus=media.num_decode_workers if wanted <= num_cpus else DECODER_CPUS,
        num_engines=num_engines,
        engine_cpus=ENGINE_CPUS,
        engine_gpus=gpus_each,
        concurrency=job.concurrency or round(ROWS_PER_SEQUENCE * engine.max_num_seqs),
    )


def _reason(error: BaseException) -> str:
    """The innermost one: Ray wraps what an actor raised."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or repr(error)
