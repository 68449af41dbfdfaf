"""What Ray and Serve raise, as errors of ours: some are tried again, some mean that a replica died."""

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ObjectLostError,
    OutOfMemoryError,
    RayTaskError,
)
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
)

from serve_app.deployments.pipeline import unwrap
from serve_app.errors import (
    ClipNotFoundError,
    NotReadyError,
    OverloadedError,
    ReplicaDiedError,
    ReplicaLostError,
)


def upstream_death() -> Exception:
    """As Serve says that the replica died which made an argument."""
    error: Exception = RayServeException("an upstream actor died")
    error.__cause__ = ActorDiedError()
    return error


def in_a_task(error: Exception) -> Exception:
    wrapped: Exception = RayTaskError("decode", "a traceback", error).as_instanceof_cause()
    return wrapped


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ActorDiedError(), ReplicaDiedError),
        (in_a_task(ActorDiedError()), ReplicaDiedError),
        (upstream_death(), ReplicaDiedError),
        (OutOfMemoryError("by Ray's memory monitor"), ReplicaLostError),
        (ActorUnavailableError("network", None), ReplicaLostError),
        (ObjectLostError("ff", None, ""), ReplicaLostError),
        (RayServeException("x"), ReplicaLostError),
        (DeploymentUnavailableError(DeploymentID("Generator", "app")), NotReadyError),
        (BackPressureError(3, 2), OverloadedError),
        (in_a_task(ClipNotFoundError("no such clip")), ClipNotFoundError),
    ],
)
def test_an_error_of_ray_becomes_one_of_ours(error: Exception, kind: type[Exception]) -> None:
    assert type(unwrap(error)) is kind


def test_a_bug_of_a_stage_stays_what_it_is() -> None:
    bug = in_a_task(TimeoutError("a socket of its own"))
    assert unwrap(bug) is bug
