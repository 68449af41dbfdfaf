"""Connects a batch to a Ray cluster, or starts Ray on this machine, and decides the number of actors."""

from collections.abc import Iterator
from contextlib import contextmanager

from serve_app.batch.answering import AnsweredUnit
from serve_app.batch.manifest import Manifest
from serve_app.batch.options import Job
from serve_app.batch.pipeline import Actors, UnitSource, answered_units
from serve_app.errors import BatchFailedError
from serve_app.ray_start import prepare_ray_environment, start_ray

NAMESPACE = "emotion-llama-batch"
# Rows inside an engine for each place in its batch: the others wait there, so that no place stays empty.
ROWS_PER_SEQUENCE = 1.5
ENGINE_CPUS, DECODER_CPUS = (
    1.0,
    0.5,
)  # as in configs/serve.yaml: on a small machine actors share cores


@contextmanager
def answering_units(job: Job, manifest: Manifest, done: bytes) -> Iterator[Iterator[AnsweredUnit]]:
    """Runs the job's units that are not done; yields an iterator of the answered ones.

    Raises:
        BatchFailedError: inside the block, when an actor or Ray failed for good.
    """
    prepare_ray_environment()
    import ray
    from ray.data.exceptions import UserCodeException

    start_ray(job.address, NAMESPACE)
    try:
        source = UnitSource(manifest, done, job.defaults, job.settings)
        yield answered_units(source, job.settings, _actors(job))
    except (ray.exceptions.RayError, UserCodeException) as error:
        raise BatchFailedError(f"{_reason(error)}; --resume continues the job") from error
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
    """The message of the innermost cause: Ray wraps what an actor raised."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or repr(error)
