"""The chosen frame is the one that was asked for."""

from pathlib import Path

import pytest
from media.clips import (
    COLOURS,
    blank_packets,
    blurred_frames,
    colour_clip,
    colour_frames,
    mean_colour,
    ten_bit_clip,
)

from serve_app.demo.movie import FRAMES_PER_S, write_clip
from serve_app.errors import InvalidRequestError
from serve_app.media import frames, sampling
from serve_app.media.decode import decode_clip
from serve_app.settings import MediaSettings
from serve_app.types import Clip, DecodeOptions, FrameChoice

NO_REORDERING = {"bf": "0", "g": "250"}
SHORT_GOPS = {"bf": "2", "g": "10"}
ONE_GOP = {"bf": "2", "g": "250"}


def decode(path: Path, choice: FrameChoice) -> Clip:
    return decode_clip(path.read_bytes(), DecodeOptions(frame=choice), MediaSettings(), 224)


@pytest.mark.parametrize("options", [NO_REORDERING, SHORT_GOPS, ONE_GOP])
@pytest.mark.parametrize(
    ("choice", "time_s"), [("first", 0.0), ("middle", 1.52), (0.0, 0.0), (1.0, 1.0), (2.5, 2.52)]
)
def test_the_frame_is_of_its_second_and_tells_its_time(
    tmp_path: Path, options: dict[str, str], choice: FrameChoice, time_s: float
) -> None:
    clip = decode(colour_clip(tmp_path, video_options=options), choice)
    assert clip.frame_time_s == pytest.approx(time_s, abs=0.001)
    assert mean_colour(clip.frame) == pytest.approx(COLOURS[int(time_s)], abs=8)


def test_a_first_frame_that_is_not_at_the_start_tells_its_time(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "clip.mkv", colour_frames(1), video_codec="mpeg4", video_options={"g": "10"}
    )
    path.write_bytes(blank_packets(path, 10))  # all of the first group of pictures
    clip = decode(path, "first")
    assert clip.frame_time_s == pytest.approx(0.4)
    assert clip.notes  # of the damage


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.avi", "mpeg4"), ("b.avi", "libx264"), ("c.mkv", "libx264"), ("d.mp4", "mpeg4")],
)
def test_the_first_frame_is_at_zero_in_every_container(
    tmp_path: Path, name: str, codec: str
) -> None:
    frames, options = colour_frames(1), {"bf": "2"}
    path = write_clip(tmp_path / name, frames, video_codec=codec, video_options=options)
    assert decode(path, "first").frame_time_s == 0.0


def test_a_time_between_two_frames_means_the_next_one(tmp_path: Path) -> None:
    assert decode(colour_clip(tmp_path), 0.97).frame_time_s == pytest.approx(1.0)
    assert decode(colour_clip(tmp_path), 0.95).frame_time_s == pytest.approx(0.96)


def test_a_coarse_clock_rounds_to_the_next_frame_too(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.avi", colour_frames(1), video_codec="mpeg4")  # 25 ticks a s
    assert decode(path, 0.5).frame_time_s == pytest.approx(0.52)


def test_a_time_within_the_last_frame_means_that_frame(tmp_path: Path) -> None:
    assert decode(colour_clip(tmp_path), 2.99).frame_time_s == pytest.approx(2.96)


def test_a_time_beyond_the_end_names_the_duration(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"9\.00 s is beyond .* lasts 3\.00 s"):
        decode(colour_clip(tmp_path), 9.0)


@pytest.mark.parametrize("choice", [-1.0, float("nan"), float("inf"), "last"])
def test_a_choice_that_means_nothing_is_rejected(tmp_path: Path, choice: FrameChoice) -> None:
    with pytest.raises(InvalidRequestError, match="allowed are first, middle, sharpest or a time"):
        decode(colour_clip(tmp_path, 1), choice)


@pytest.mark.parametrize("name", ["clip.avi", "clip.mkv", "clip.mp4"])
def test_times_are_right_in_every_container(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    clip = decode(write_clip(tmp_path / name, colour_frames(3), video_codec=codec), 2.0)
    assert clip.frame_time_s == pytest.approx(2.0, abs=0.001)
    assert mean_colour(clip.frame) == pytest.approx(COLOURS[2], abs=8)


@pytest.mark.parametrize("sharp", [0, 8, 15])
def test_the_sharpest_frame_is_found(tmp_path: Path, sharp: int) -> None:
    clip = decode(write_clip(tmp_path / "blur.mp4", blurred_frames(16, sharp)), "sharpest")
    assert clip.frame_time_s == pytest.approx(sharp / FRAMES_PER_S, abs=0.001)


@pytest.mark.parametrize("sharp", [0, 8, 15])
def test_without_decord_the_same_frame_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharp: int
) -> None:
    path = write_clip(tmp_path / "blur.mp4", blurred_frames(16, sharp))
    with_decord = decode(path, "sharpest")
    monkeypatch.setattr(sampling, "MIN_SIDE_PX", 10_000)  # every picture is too narrow for it
    without = decode(path, "sharpest")
    assert without.frame_time_s == with_decord.frame_time_s == pytest.approx(sharp / FRAMES_PER_S)


def test_decord_is_what_samples_a_normal_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames.ChosenFrame, "_sampled", None)  # PyAV's way is closed
    assert decode(colour_clip(tmp_path), "sharpest").frame is not None


def test_the_first_frame_comes_without_waiting_for_later_packets(tmp_path: Path) -> None:
    early = decode(colour_clip(tmp_path, video_options=ONE_GOP), "first")
    exact = decode(colour_clip(tmp_path, video_options=ONE_GOP), 0.0)  # decoded in order
    assert early.frame is not None and exact.frame is not None
    assert (early.frame == exact.frame).all()


def test_other_pixels_at_the_same_time_are_other_content(tmp_path: Path) -> None:
    path = ten_bit_clip(tmp_path / "deep.mp4", blurred_frames(16, 8))
    by_decord, by_time = decode(path, "sharpest"), decode(path, 8 / FRAMES_PER_S)
    assert by_decord.frame is not None and by_time.frame is not None
    assert by_decord.frame_time_s == by_time.frame_time_s
    assert (by_decord.frame != by_time.frame).any()  # the two round to 8 bits differently
    assert by_decord.content_sha256 != by_time.content_sha256


def test_the_same_pixels_and_sound_are_the_same_content(tmp_path: Path) -> None:
    path = colour_clip(tmp_path)
    first, at_zero = decode(path, "first"), decode(path, 0.0)
    assert first.content_sha256 == at_zero.content_sha256 != ""
    assert decode(path, 1.0).content_sha256 != first.content_sha256
