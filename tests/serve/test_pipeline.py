"""How a request crosses real Serve: affinity, errors, deadline, cancellation. The stages are stand-ins."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from ray import cloudpickle, serve
from ray.serve.context import _set_request_context
from serve import stages as stages_module
from serve.stages import FakeGenerator, FakePreprocessor, Root

from serve_app.deployments.clip_router import clip_affinity
from serve_app.deployments.pipeline import ServePipeline
from serve_app.errors import (
    ClipOverLimitError,
    DeadlineExceededError,
    EngineError,
    OverloadedError,
    PoisonedRequestError,
    QuestionTooLongError,
    ReplicaLostError,
)
from serve_app.metrics import NoMeter
from serve_app.settings import LimitSettings
from serve_app.types import Answer, AnswerDelta, AnswerRequest, ClipSource, ScoreRequest

APP = "stages"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stages") / "log"
    path.touch()
    return path


@pytest.fixture(scope="module")
def stages(server_url: str, log: Path) -> Iterator[None]:
    """Two replicas of each stand-in, beside the real application."""
    cloudpickle.register_pickle_by_value(stages_module)  # replicas cannot import from tests/
    no_cpus = {"num_cpus": 0}
    stage = serve.deployment(
        num_replicas=2,
        max_ongoing_requests=4,
        max_queued_requests=4,
        request_router_config=clip_affinity(),
        ray_actor_options=no_cpus,
    )
    preprocessor, generator = stage(FakePreprocessor).bind(log), stage(FakeGenerator).bind(log)
    root = serve.deployment(Root, ray_actor_options=no_cpus).bind(preprocessor, generator)
    serve.run(root, name=APP, route_prefix="/stages")
    yield
    serve.delete(APP)


def pipeline(**limits: float) -> ServePipeline:
    return ServePipeline(
        serve.get_deployment_handle("FakePreprocessor", APP),
        serve.get_deployment_handle("FakeGenerator", APP),
        LimitSettings.model_validate(limits),
        NoMeter(),
    )


async def ask(pipeline: ServePipeline, path: str, question: str = "?") -> Answer:
    return await pipeline.answer(AnswerRequest(ClipSource(path=path), question))


async def wait_for(log: Path, line: str) -> None:
    async with asyncio.timeout(10):
        while line not in log.read_text():
            await asyncio.sleep(0.02)


async def test_requests_of_one_clip_go_to_one_replica_of_each_stage(stages: None) -> None:
    seen: dict[str, set[tuple[str, str]]] = defaultdict(set)
    shared = pipeline()  # a new one would have to learn first how busy each replica is
    for _ in range(4):
        for number in range(8):
            answer = await ask(shared, f"clip {number}")
            pids = answer.provenance
            seen[f"clip {number}"].add((pids["preprocessor"], pids["generator"]))
    assert all(len(replicas) == 1 for replicas in seen.values())
    for stage in (0, 1):  # and the clips are spread over both
        assert len({next(iter(replicas))[stage] for replicas in seen.values()}) == 2


async def test_an_error_of_either_stage_arrives_as_itself(stages: None) -> None:
    with pytest.raises(ClipOverLimitError, match=r"^clip lasts 61.0 s; the limit is 60.0 s$"):
        await ask(pipeline(), "bad")
    with pytest.raises(QuestionTooLongError, match="at most 2048"):
        await ask(pipeline(), "good", "fail")


async def test_a_bug_in_a_stage_stays_a_bug(stages: None) -> None:
    with pytest.raises(ZeroDivisionError):
        await ask(pipeline(), "good", "crash")


@pytest.mark.parametrize(("path", "question"), [("die", "?"), ("good", "die")])
async def test_what_kills_two_replicas_is_not_tried_on_a_third(
    stages: None, path: str, question: str
) -> None:
    with pytest.raises(PoisonedRequestError, match="2 replicas in a row died"):
        await ask(pipeline(), path, question)
    assert (await ask(pipeline(), "good")).text == "ok"


@pytest.mark.parametrize(
    ("path", "question"),
    [("once a clip", "?"), ("good", "once a question"), ("hang a clip", "?"), ("good", "hang")],
)
async def test_a_request_outlives_its_replica(stages: None, path: str, question: str) -> None:
    answer = await ask(pipeline(hedge_after_s=2), path, question)
    assert answer.text == "ok"


async def test_a_clip_whose_producer_cannot_be_reached_is_decoded_elsewhere_at_once(
    stages: None,
) -> None:
    # By Serve itself the generator would be asked about the failed clip again and again.
    impatient = pipeline(hedge_after_s=60)
    assert (await ask(impatient, "out of reach")).text == "ok"
    assert [each.text async for each in stream(impatient, "?", "out of reach too")] == ["o", "k"]


async def test_requests_that_wait_under_one_id_of_serves_are_all_answered(
    stages: None, log: Path
) -> None:
    _set_request_context(_internal_request_id="of one HTTP request")  # as its attempts have it
    log.write_text("")
    shared = pipeline()
    everywhere = []
    for number in range(8):
        everywhere.append(asyncio.create_task(ask(shared, f"clip {number}", "wait")))
        await wait_for(log, "answer started\n" * (number + 1))
    waiting = [asyncio.create_task(ask(shared, "clip 1")) for _ in range(2)]
    done, _ = await asyncio.wait(waiting, timeout=1)
    assert not done, "there was room"
    for task in everywhere:
        task.cancel()
    assert [answer.text for answer in await asyncio.gather(*waiting)] == ["ok", "ok"]
    await asyncio.gather(*everywhere, return_exceptions=True)


async def test_a_score_outlives_its_replica(stages: None) -> None:
    request = ScoreRequest(ClipSource(path="good"), "once a score", ("a", "b"))
    assert (await pipeline().score(request)).probabilities == {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize("question", ["once a stream", "hang a stream"])
async def test_a_stream_outlives_its_replica_until_it_has_begun(
    stages: None, question: str
) -> None:
    patient = pipeline(hedge_after_s=2)
    assert [each.text async for each in stream(patient, question)] == ["o", "k"]
    deltas = stream(patient, "late death")
    assert (await anext(deltas)).text == "o"
    with pytest.raises(ReplicaLostError, match="replica that held the request is gone"):
        await anext(deltas)


async def test_what_hangs_for_ever_ends_at_the_deadline(stages: None) -> None:
    with pytest.raises(DeadlineExceededError):
        await ask(pipeline(hedge_after_s=0.5, request_timeout_s=2), "slow")


async def test_the_warm_up_tries_until_a_request_goes_through(stages: None, log: Path) -> None:
    log.write_text("")
    cold = pipeline()
    await cold.warm_up()
    assert cold.is_ready
    assert "warm-up failed" in log.read_text()


async def test_the_deadline_cancels_the_generator(stages: None, log: Path) -> None:
    log.write_text("")
    with pytest.raises(DeadlineExceededError, match=r"within 3.0 s"):
        await ask(pipeline(request_timeout_s=3.0), "good", "wait")
    await wait_for(log, "answer cancelled")


async def test_the_deadline_cancels_the_preprocessor(stages: None, log: Path) -> None:
    log.write_text("")
    with pytest.raises(DeadlineExceededError):
        await ask(pipeline(request_timeout_s=3.0), "slow")
    await wait_for(log, "decode cancelled")


async def test_leaving_cancels_the_stage_at_work(stages: None, log: Path) -> None:
    log.write_text("")
    leaving = asyncio.create_task(ask(pipeline(), "good", "wait"))
    await wait_for(log, "answer started")
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await wait_for(log, "answer cancelled")


async def test_a_full_stage_is_overloaded_and_recovers(stages: None) -> None:
    few = pipeline()
    waiting = [asyncio.create_task(ask(few, f"clip {n}", "wait")) for n in range(40)]
    done, pending = await asyncio.wait(waiting, timeout=5)
    assert done, "nothing was refused"
    assert all(isinstance(task.exception(), OverloadedError) for task in done)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    assert (await ask(pipeline(), "clip 1")).text == "ok"


async def test_the_ingress_refuses_over_its_own_limit(stages: None, log: Path) -> None:
    log.write_text("")
    full = pipeline(max_in_flight=1)
    first = asyncio.create_task(ask(full, "good", "wait"))
    await wait_for(log, "answer started")
    with pytest.raises(OverloadedError, match="the limit is 1"):
        await ask(full, "good")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (await ask(full, "good")).text == "ok"


def stream(
    pipeline: ServePipeline, question: str, path: str = "a clip"
) -> AsyncIterator[AnswerDelta]:
    return pipeline.stream(AnswerRequest(ClipSource(path=path), question))


async def test_a_stream_crosses_in_pieces(stages: None) -> None:
    deltas = [delta async for delta in stream(pipeline(), "?")]
    assert [delta.text for delta in deltas] == ["o", "k"]
    assert deltas[-1].usage is not None


async def test_a_streams_errors_keep_their_class(stages: None) -> None:
    with pytest.raises(QuestionTooLongError, match="at most 2048"):
        await anext(stream(pipeline(), "fail"))
    with pytest.raises(ClipOverLimitError, match=r"61\.0 s"):
        await anext(stream(pipeline(), "?", "bad clip"))
    deltas = stream(pipeline(), "break")
    assert (await anext(deltas)).text == "o"
    with pytest.raises(EngineError):
        await anext(deltas)


async def test_a_stream_that_nobody_reads_is_stopped(stages: None, log: Path) -> None:
    limited = pipeline(max_in_flight=1)
    deltas = stream(limited, "wait")
    await anext(deltas)
    await wait_for(log, "stream started")
    with pytest.raises(OverloadedError):
        await anext(stream(limited, "?"))
    await deltas.aclose()  # type: ignore[attr-defined]
    await wait_for(log, "stream cancelled")
    assert [delta.text async for delta in stream(limited, "?")] == ["o", "k"]


async def test_a_stream_ends_at_its_deadline(stages: None) -> None:
    deltas = stream(pipeline(request_timeout_s=1.0), "wait")
    await anext(deltas)
    with pytest.raises(DeadlineExceededError, match=r"within 1\.0 s"):
        await anext(deltas)
