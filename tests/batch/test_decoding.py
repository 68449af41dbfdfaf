"""The decode stage: a real pool decodes each clip once, and errors of a clip become records."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from pyarrow import fs

from serve_app.batch.decoding import TRIES, Decoding
from serve_app.batch.rows import Group, RowRequest, Unit
from serve_app.errors import DecodeCrashedError, DecoderUnavailableError, ServeAppError
from serve_app.media.pool import DecodePool
from serve_app.settings import MediaSettings
from serve_app.types import NO_SOURCE, AnswerRequest, Clip, ClipSource, DecodeOptions

MEDIA = MediaSettings(allowed_roots=(Path("/"),), voice=False, max_clip_bytes=1 << 20)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def decoding() -> AsyncIterator[Decoding]:
    decoding = Decoding(MEDIA, image_size=112)
    yield decoding
    await asyncio.to_thread(decoding.close)


def group(path: str, num_rows: int = 1, features: str | None = None, first: int = 0) -> Group:
    row_requests = tuple(
        RowRequest(first + number, f"r{first + number}", AnswerRequest(NO_SOURCE, "What?"))
        for number in range(num_rows)
    )
    return Group(ClipSource(path=path), DecodeOptions(), features, row_requests)


async def test_a_clip_is_decoded_once_for_all_its_rows(
    decoding: Decoding, clip_files: list[Path]
) -> None:
    unit = Unit((group(str(clip_files[0]), 3), group(str(clip_files[1]), 2, first=3)), ())
    decoded = await decoding.decode(unit)
    assert [len(row_requests) for _, row_requests in decoded.clips] == [3, 2]
    assert all(clip.frame is not None for clip, _ in decoded.clips)
    assert decoded.done == ()


async def test_a_bad_clip_is_a_record_for_each_of_its_rows(
    decoding: Decoding, clip_files: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(clip_files[0].read_bytes()[:2000])
    groups = (
        group(str(tmp_path / "none.mp4"), 2),
        group(str(clip_files[0]), first=2),
        group(str(tmp_path / "broken.mp4"), first=3),
        group(str(clip_files[0]), features=str(tmp_path / "none.npz"), first=4),
    )
    decoded = await decoding.decode(Unit(groups, ()))
    assert [row_requests[0].number for _, row_requests in decoded.clips] == [2]
    assert {record.number: record.error_code for record in decoded.done} == {
        0: "clip_not_found",
        1: "clip_not_found",
        3: "undecodable_clip",
        4: "invalid_request",
    }
    line = json.loads(decoded.done[-1].line)
    assert "none.npz cannot be read" in line["error"]["message"]


async def test_ready_features_travel_with_the_clip(
    decoding: Decoding, clip_files: list[Path], tmp_path: Path
) -> None:
    np.savez(tmp_path / "1.npz", face_feature=np.ones(8, np.float32))
    features = str(tmp_path / "1.npz")
    decoded = await decoding.decode(Unit((group(str(clip_files[0]), features=features),), ()))
    ((clip, _),) = decoded.clips
    assert list(clip.features) == ["face_feature"]


async def test_a_clip_in_a_store_is_fetched_up_to_the_limit(
    decoding: Decoding, clip_files: list[Path]
) -> None:
    store, _ = fs.FileSystem.from_uri("fsspec+memory://")
    store.create_dir("clips")
    for name, data in {"1.mp4": clip_files[0].read_bytes(), "big.mp4": bytes(2 << 20)}.items():
        with store.open_output_stream(f"clips/{name}") as file:
            file.write(data)
    names = ("1.mp4", "big.mp4", "none.mp4")
    groups = tuple(
        group(f"fsspec+memory://clips/{name}", first=number) for number, name in enumerate(names)
    )
    decoded = await decoding.decode(Unit(groups, ()))
    assert [row_requests[0].number for _, row_requests in decoded.clips] == [0]
    codes = [record.error_code for record in decoded.done]
    assert codes == ["clip_too_large", "clip_not_found"]


class Flaky:
    """Makes the pool's first decodes fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: ServeAppError, times: int) -> None:
        self.num_calls = 0
        decode = DecodePool.decode

        async def fail(pool: DecodePool, source: ClipSource, options: DecodeOptions) -> Clip:
            self.num_calls += 1
            if self.num_calls <= times:
                raise error
            return await decode(pool, source, options)

        monkeypatch.setattr(DecodePool, "decode", fail)


CRASHED, UNAVAILABLE = DecodeCrashedError("SIGKILL"), DecoderUnavailableError("no worker")


@pytest.mark.parametrize("error", [CRASHED, UNAVAILABLE], ids=["killed", "not started"])
async def test_a_worker_that_was_killed_costs_no_row(
    error: ServeAppError,
    decoding: Decoding,
    clip_files: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Flaky(monkeypatch, error, TRIES - 1)
    decoded = await decoding.decode(Unit((group(str(clip_files[0])),), ()))
    assert len(decoded.clips) == 1


async def test_a_clip_over_which_every_worker_dies_is_an_error(
    decoding: Decoding, clip_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky = Flaky(monkeypatch, CRASHED, 100)
    decoded = await decoding.decode(Unit((group(str(clip_files[0])),), ()))
    assert [record.error_code for record in decoded.done] == ["decode_crashed"]
    assert flaky.num_calls == TRIES


async def test_workers_that_never_start_fail_the_job(
    decoding: Decoding, clip_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    Flaky(monkeypatch, UNAVAILABLE, 100)
    with pytest.raises(DecoderUnavailableError):
        await decoding.decode(Unit((group(str(clip_files[0])),), ()))
