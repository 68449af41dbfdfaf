"""A clip in the cache is read again but not decoded again, unless its bytes changed."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lib.plain_clips import face_frames, voice

from serve_app.demo.movie import write_clip
from serve_app.errors import ClipForbiddenError, ClipNotFoundError, UndecodableClipError
from serve_app.media.clip_cache import ClipCache, num_bytes
from serve_app.media.pool import DecodeCounts, DecodePool
from serve_app.settings import MediaSettings
from serve_app.types import Clip, ClipSource, DecodeOptions, Features

FIRST = DecodeOptions()
SIZE = 224


def clip(sha256: str, num_samples: int = 1000, features: Features | None = None) -> Clip:
    waveform = np.zeros(num_samples, np.int16)
    return Clip(sha256, None, None, waveform, 1.0, features=features or {})


def test_it_holds_what_its_bytes_allow_and_drops_what_was_not_asked_for_longest() -> None:
    cache = ClipCache(3 * num_bytes(clip("")))
    for sha256 in "abc":
        cache.keep(clip(sha256), FIRST)
    cache.keep(cache.held(FIRST, {})["a"], FIRST)
    cache.keep(clip("d"), FIRST)
    assert cache.held(FIRST, {}).keys() == {"a", "c", "d"}
    cache.keep(clip("e", num_samples=2000), FIRST)
    assert cache.held(FIRST, {}).keys() == {"d", "e"}


def test_a_clip_kept_twice_counts_once() -> None:
    cache = ClipCache(2 * num_bytes(clip("")))
    for sha256 in "aaaab":
        cache.keep(clip(sha256), FIRST)
    assert cache.held(FIRST, {}).keys() == {"a", "b"}


@pytest.mark.parametrize("num_clips", [0, 1], ids=["off", "too small for the clip"])
def test_it_may_hold_nothing(num_clips: int) -> None:
    cache = ClipCache(num_clips * num_bytes(clip("", num_samples=100)))
    cache.keep(clip("a"), FIRST)
    assert cache.held(FIRST, {}) == {}


def test_every_array_counts() -> None:
    whole = Clip("a", np.zeros((2, 2, 3), np.uint8), 0.0, np.zeros(5, np.int16), 1.0)
    featured = clip("a", 5, {"face_feature": np.zeros(4, np.float32)})
    assert num_bytes(whole) - num_bytes(clip("a", 0)) == 12 + 10
    assert num_bytes(featured) - num_bytes(clip("a", 0)) == 10 + 16


def test_other_options_and_other_features_are_other_clips() -> None:
    one: Features = {"face_feature": np.ones(4, np.float32)}
    two: Features = {"face_feature": np.full(4, 2, np.float32)}
    cache = ClipCache(1 << 20)
    cache.keep(clip("a"), FIRST)
    cache.keep(clip("b", features=one), FIRST)
    cache.keep(clip("c"), DecodeOptions(frame="middle"))
    assert cache.held(FIRST, {}).keys() == {"a"}
    assert cache.held(FIRST, one).keys() == {"b"}
    assert cache.held(FIRST, two) == {}
    assert cache.held(DecodeOptions(frame="middle"), {}).keys() == {"c"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", face_frames(0, 1.0), [voice(0, 1.0)])


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[DecodePool]:
    settings = MediaSettings(allowed_roots=(tmp_path,), voice=False, decode_timeout_s=5.0)
    pool = DecodePool(settings, SIZE)
    yield pool
    pool.close()


def by_path(path: Path) -> ClipSource:
    return ClipSource(path=str(path))


async def test_a_second_question_gets_the_clip_of_the_first(pool: DecodePool, path: Path) -> None:
    first = await pool.decode(by_path(path), FIRST)
    uploaded = await pool.decode(ClipSource(data=path.read_bytes()), FIRST)
    assert pool.counts() == DecodeCounts(num_decoded=1, num_hits=1)
    assert uploaded.frame is first.frame and uploaded.waveform is first.waveform
    assert 0 < uploaded.decode_ms < first.decode_ms


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions(frame="middle"),
        DecodeOptions(frame=0.5),
        DecodeOptions(audio_mode="reference"),
    ],
    ids=["middle", "time", "audio mode"],
)
async def test_other_options_are_decoded(
    pool: DecodePool, path: Path, options: DecodeOptions
) -> None:
    first = await pool.decode(by_path(path), FIRST)
    other = await pool.decode(by_path(path), options)
    assert pool.counts() == DecodeCounts(num_decoded=2, num_hits=0)
    assert other.content_sha256 != first.content_sha256


async def test_features_come_with_the_held_clip(pool: DecodePool, path: Path) -> None:
    features: Features = {"face_feature": np.ones(4, np.float32)}
    source = ClipSource(path=str(path), features=features)
    await pool.decode(by_path(path), FIRST)
    first, second = [await pool.decode(source, FIRST) for _ in range(2)]
    assert pool.counts() == DecodeCounts(num_decoded=2, num_hits=1)
    assert second.content_sha256 == first.content_sha256
    np.testing.assert_array_equal(second.features["face_feature"], features["face_feature"])


async def test_a_changed_file_is_decoded_although_nothing_about_it_tells(
    pool: DecodePool, path: Path
) -> None:
    """Same path, inode, size and times: only the bytes differ."""
    before = path.stat()
    first = await pool.decode(by_path(path), FIRST)
    data = path.read_bytes()
    middle = len(data) // 2
    with path.open("r+b") as file:
        file.seek(middle)
        file.write(bytes(byte ^ 1 for byte in data[middle : middle + 500]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert after.st_mtime_ns == before.st_mtime_ns
    second = await pool.decode(by_path(path), FIRST)
    assert pool.counts() == DecodeCounts(num_decoded=2, num_hits=0)
    assert second.sha256 != first.sha256


async def test_a_held_clip_opens_no_file_that_may_not_be_read(
    pool: DecodePool, path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await pool.decode(by_path(path), FIRST)
    outside = tmp_path_factory.mktemp("outside") / "clip.mp4"
    path.rename(outside)
    with pytest.raises(ClipNotFoundError):
        await pool.decode(by_path(path), FIRST)
    with pytest.raises(ClipForbiddenError):
        await pool.decode(by_path(outside), FIRST)


async def test_errors_are_not_held(pool: DecodePool, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    for _ in range(2):
        with pytest.raises(UndecodableClipError):
            await pool.decode(by_path(path), FIRST)
    path.write_bytes(whole)
    await pool.decode(by_path(path), FIRST)
    assert pool.counts() == DecodeCounts(num_decoded=1, num_hits=0)


async def test_a_cancelled_question_spoils_nothing_for_the_others(
    pool: DecodePool, path: Path
) -> None:
    first, second = (asyncio.create_task(pool.decode(by_path(path), FIRST)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).frame is not None
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await pool.decode(by_path(path), FIRST)).frame is not None


async def test_one_that_is_held_is_not_lost_while_it_is_read_again(tmp_path: Path) -> None:
    """The clip is evicted from the cache while the worker reads it again."""
    paths = [
        write_clip(tmp_path / f"{n}.mp4", face_frames(n, 1.0), [voice(n, 1.0)]) for n in range(2)
    ]
    settings = MediaSettings(allowed_roots=(tmp_path,), voice=False, num_decode_workers=1)
    pool = DecodePool(settings.model_copy(update={"clip_cache_bytes": 200_000}), SIZE)  # of one
    first = await pool.decode(by_path(paths[0]), FIRST)
    _, again = await asyncio.gather(*(pool.decode(by_path(path), FIRST) for path in paths[::-1]))
    pool.close()
    assert again.content_sha256 == first.content_sha256
    assert pool.counts() == DecodeCounts(num_decoded=2, num_hits=1)
