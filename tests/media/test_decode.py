"""Decoding clips of every kind, and the errors for those that cannot be decoded."""

import contextlib
import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from lib.plain_clips import face_frames
from media.clips import (
    claiming,
    colour_clip,
    colour_frames,
    cover_art_m4a,
    damaged,
    encoded_tone,
    mean_colour,
    plain_frames,
    rotated,
    tone,
)
from PIL import Image

from serve_app.demo.movie import SAMPLES_PER_S, write_clip
from serve_app.errors import (
    ClipOverLimitError,
    ServeAppError,
    UndecodableClipError,
    UnsupportedClipError,
)
from serve_app.media.decode import content_sha256, decode_clip
from serve_app.settings import MediaSettings
from serve_app.types import SAMPLE_RATE, Clip, DecodeOptions

IMAGE_SIZE = 448
HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile /etc/passwd\n"


def decode(source: Path | bytes, **settings: object) -> Clip:
    data = source if isinstance(source, bytes) else source.read_bytes()
    return decode_clip(data, DecodeOptions(), MediaSettings.model_validate(settings), IMAGE_SIZE)


def test_a_normal_clip_has_a_picture_and_sixteen_kilohertz_sound(tmp_path: Path) -> None:
    clip = decode(colour_clip(tmp_path))
    assert clip.frame is not None and clip.waveform is not None
    assert clip.frame.shape == (IMAGE_SIZE, IMAGE_SIZE, 3) and clip.frame.dtype == np.uint8
    assert clip.waveform.dtype == np.int16
    assert len(clip.waveform) == pytest.approx(3 * SAMPLE_RATE, abs=1100)  # one AAC frame
    assert clip.duration_s == pytest.approx(3.0, abs=0.1)
    assert (clip.missing, clip.notes) == ((), ())


def test_another_sound_is_other_content(tmp_path: Path) -> None:
    low, high = (
        decode(write_clip(tmp_path / "clip.mp4", colour_frames(1), [tone(1.0, pitch_hz)]))
        for pitch_hz in (220.0, 440.0)
    )
    assert low.frame is not None and (low.frame == high.frame).all()
    assert low.content_sha256 != high.content_sha256


def test_content_tells_pixels_from_sound_and_one_shape_from_another() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    sound = pixels.reshape(-1).view(np.int16)
    contents = [(None, None), (pixels, None), (None, sound), (pixels, sound), (pixels, sound[:0])]
    contents.append((pixels.reshape(1, 4, 3), sound))
    assert len({content_sha256(*content) for content in contents}) == len(contents)


def test_pixels_are_pillows_bicubic_of_the_whole_first_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "face.mp4", face_frames(0, 0.2))
    with av.open(str(path)) as container:
        first = next(container.decode(video=0)).to_image()
    expected = np.asarray(first.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(decode(path).frame, expected)


def test_loudness_and_pitch_survive_the_way_to_mono(tmp_path: Path) -> None:
    waveform = decode(encoded_tone(tmp_path / "tone.wav", 1.0, audio_codec="pcm_s16le")).waveform
    assert waveform is not None
    spectrum = np.abs(np.fft.rfft(waveform))
    assert np.argmax(spectrum) * SAMPLE_RATE / len(waveform) == pytest.approx(440, abs=2)
    assert np.abs(waveform).max() / 32768 == pytest.approx(0.5, abs=0.02)  # of both channels


def test_sound_equals_resampling_frame_by_frame(tmp_path: Path) -> None:
    path = colour_clip(tmp_path)
    resampler, chunks = av.AudioResampler("s16", "mono", SAMPLE_RATE), []
    with av.open(str(path)) as container:
        for frame in [*container.decode(audio=0), None]:
            chunks += [resampled.to_ndarray()[0] for resampled in resampler.resample(frame)]
    np.testing.assert_array_equal(decode(path).waveform, np.concatenate(chunks))


def test_a_clip_without_sound_says_so(tmp_path: Path) -> None:
    clip = decode(write_clip(tmp_path / "mute.mp4", colour_frames(1)))
    assert clip.waveform is None and clip.frame is not None
    assert clip.missing == ("audio",)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".m4a", "aac"), (".wav", "pcm_s16le"), (".mp3", "libmp3lame")]
)
def test_sound_alone_is_a_clip_without_a_picture(tmp_path: Path, suffix: str, codec: str) -> None:
    clip = decode(encoded_tone(tmp_path / f"tone{suffix}", 1.0, audio_codec=codec))
    assert clip.frame is None and clip.frame_time_s is None and clip.waveform is not None
    assert clip.missing == ("video",)


def test_cover_art_is_not_taken_for_a_picture(tmp_path: Path) -> None:
    assert decode(cover_art_m4a(tmp_path)).missing == ("video",)


def test_silence_is_kept_and_named(tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "silent.mp4", colour_frames(1), [tone(1.0, volume=0.0)])
    clip = decode(silent)
    assert clip.waveform is not None and not clip.waveform.any()
    assert clip.missing == ("voice",)


def test_sound_too_short_for_the_model_is_missing_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "blip.avi"
    clip = decode(write_clip(path, colour_frames(1), [tone(0.02)], audio_codec="pcm_s16le"))
    assert clip.missing == ("audio",)
    assert clip.notes == ("320 samples of sound were dropped; 400 are needed",)


def test_the_first_of_two_sound_tracks_is_heard(tmp_path: Path) -> None:
    sounds = [tone(1.0, 440.0), tone(1.0, 1760.0)]
    waveform = decode(write_clip(tmp_path / "two.mp4", (), sounds)).waveform
    assert waveform is not None
    peak_hz = np.argmax(np.abs(np.fft.rfft(waveform))) * SAMPLE_RATE / len(waveform)
    assert peak_hz == pytest.approx(440, abs=5)


def test_sound_that_changes_midway_is_heard_to_the_end(tmp_path: Path) -> None:
    parts: list[dict[str, object]] = [{}, {"layout": "mono"}, {}, {"sample_rate": 48_000}]
    data = b""
    for number, encoding in enumerate(parts):
        path = tmp_path / f"{number}.mp3"
        data += encoded_tone(path, 1.0, audio_codec="libmp3lame", **encoding).read_bytes()
    clip = decode(data)
    assert clip.waveform is not None
    assert len(clip.waveform) == pytest.approx(4 * SAMPLE_RATE, rel=0.1)


@pytest.mark.parametrize(("degrees", "turns"), [(90, -1), (180, 2), (270, 1)])
def test_a_phone_held_upright_gives_an_upright_picture(
    tmp_path: Path, degrees: int, turns: int
) -> None:
    frame = next(plain_frames(1, 320, 240)).copy()
    frame[:120, :160] = (255, 0, 0)  # one red corner tells the four turns apart
    data = write_clip(tmp_path / "corner.mp4", [frame] * 5).read_bytes()
    upright = decode(data).frame
    turned = decode(rotated(data, degrees)).frame
    assert upright is not None and turned is not None
    difference = turned.astype(int) - np.rot90(upright, turns)  # counter-clockwise
    assert np.abs(difference).mean() < 2


@pytest.mark.parametrize(
    ("name", "video_codec", "audio_codec", "rate"),
    [
        ("clip.webm", "libvpx-vp9", "libopus", 48_000),
        ("clip.mkv", "libx264", "aac", 44_100),
        ("clip.avi", "mpeg4", "libmp3lame", 44_100),
        ("clip.mov", "mpeg4", "pcm_s16le", 44_100),
    ],
)
def test_every_allowed_container_decodes(
    tmp_path: Path, name: str, video_codec: str, audio_codec: str, rate: int
) -> None:
    path = write_clip(
        tmp_path / name,
        colour_frames(1),
        [tone(1.0)],
        video_codec=video_codec,
        audio_codec=audio_codec,
        sample_rate=rate,
    )
    clip = decode(path)
    assert clip.missing == () and clip.waveform is not None
    assert mean_colour(clip.frame) == pytest.approx((255, 0, 0), abs=8)


def test_an_odd_picture_size_decodes(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "odd.mkv", plain_frames(5, 321, 241), video_codec="libvpx-vp9")
    assert decode(path).missing == ("audio",)


@pytest.mark.parametrize("content", [b"", b"hello " * 9999, bytes(200_000), HLS, CONCAT])
def test_what_is_no_media_file_is_unsupported(content: bytes) -> None:
    with pytest.raises(UnsupportedClipError, match=r"allowed are mov, matroska, avi, wav, mp3"):
        decode(content)


def test_a_container_that_is_not_on_the_list_is_unsupported(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", colour_frames(1))
    with pytest.raises(UnsupportedClipError, match="allowed are mov, avi"):
        decode(path, containers=("mov", "avi"))


def test_an_mp4_that_lost_its_index_is_damaged_and_not_unsupported(tmp_path: Path) -> None:
    data = colour_clip(tmp_path).read_bytes()  # the index is at the end
    with pytest.raises(UndecodableClipError, match="damaged mov file"):
        decode(data[: len(data) * 6 // 10])


def test_a_file_cut_short_still_gives_what_it_holds(tmp_path: Path) -> None:
    data = colour_clip(tmp_path, container_options={"movflags": "faststart"}).read_bytes()
    clip = decode(data[: len(data) * 7 // 10])
    assert clip.frame is not None and clip.waveform is not None
    assert 0 < len(clip.waveform) < 3 * SAMPLE_RATE - 2000


def test_damaged_packets_are_skipped_and_counted(tmp_path: Path) -> None:
    data = colour_clip(tmp_path, container_options={"movflags": "faststart"}).read_bytes()
    clip = decode(damaged(data))
    assert clip.waveform is not None and len(clip.waveform) > SAMPLE_RATE
    assert any(note.startswith("damaged packets of sound skipped: ") for note in clip.notes)


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_to_the_header_escapes_our_errors(tmp_path: Path, seed: int) -> None:
    data = colour_clip(tmp_path, 1, container_options={"movflags": "faststart"}).read_bytes()
    random, broken = np.random.default_rng(seed), bytearray(data)
    for position in random.integers(32, data.index(b"mdat"), 30):
        broken[position] = random.integers(0, 256)
    with contextlib.suppress(ServeAppError):
        decode(bytes(broken))


@pytest.mark.parametrize(
    ("width", "height", "message"),
    [
        (16, 16, r"picture is 16x16; a side has at least 128 pixels"),
        (400, 200, r"picture is 400x200; a side has at most 384 pixels"),
        (320, 320, r"picture is 320x320; the limit is 100000 pixels in all"),
    ],
)
def test_pictures_over_a_limit_name_it(
    tmp_path: Path, width: int, height: int, message: str
) -> None:
    path = write_clip(tmp_path / "clip.mp4", plain_frames(2, width, height))
    with pytest.raises(ClipOverLimitError, match=message):
        decode(path, max_side_px=384, max_pixels=100_000)


def test_a_clip_too_long_by_its_header_is_rejected_undecoded(tmp_path: Path) -> None:
    data = claiming(write_clip(tmp_path / "clip.mkv", colour_frames(1)).read_bytes(), 61.0)
    with pytest.raises(ClipOverLimitError, match=r"clip lasts 61\.0 s; the limit is 60\.0 s"):
        decode(data)


@pytest.mark.parametrize("kind", ["sound", "picture"])
def test_a_header_that_lies_about_the_duration_is_found_out(tmp_path: Path, kind: str) -> None:
    sounds = [tone(3.0)] if kind == "sound" else []
    frames = colour_frames(3) if kind == "picture" else ()
    path = write_clip(tmp_path / "clip.mkv", frames, sounds)
    with pytest.raises(ClipOverLimitError, match=r"clip lasts .* s; the limit is 2\.0 s"):
        decode(claiming(path.read_bytes(), 1.0), max_duration_s=2.0)


def test_too_many_streams_are_rejected(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "many.mp4", (), [tone(0.1)] * 9)
    with pytest.raises(ClipOverLimitError, match="clip has 9 streams; the limit is 8"):
        decode(path)


def test_a_recording_without_a_duration_in_its_header_is_measured(tmp_path: Path) -> None:
    options = {"live": "1"}
    frames = colour_frames(2)
    path = tmp_path / "live.webm"
    write_clip(path, frames, video_codec="libvpx-vp9", container_options=options)
    assert decode(path).duration_s == pytest.approx(2.0, abs=0.05)


def test_same_bytes_same_digest(tmp_path: Path) -> None:
    data = colour_clip(tmp_path, 1).read_bytes()
    assert decode(data).sha256 == decode(data).sha256 != decode(data + b"\0").sha256


assert SAMPLES_PER_S != SAMPLE_RATE, "the tests mean to resample"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("choice", ["first", "middle", "sharpest"])
def test_a_picture_alone_is_a_clip_without_sound(form: str, choice: Any) -> None:
    picture = Image.fromarray(np.full((200, 300, 3), (200, 80, 40), np.uint8))
    file = io.BytesIO()
    picture.save(file, form)
    clip = decode_clip(file.getvalue(), DecodeOptions(frame=choice), MediaSettings(), 112)
    assert clip.frame is not None
    assert np.abs(clip.frame.astype(int) - (200, 80, 40)).max() <= 3
    assert (clip.waveform, clip.missing) == (None, ("audio",))


def test_a_cut_picture_is_damaged_and_not_unknown() -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((200, 300, 3), np.uint8)).save(file, "PNG")
    with pytest.raises(UndecodableClipError):
        decode_clip(file.getvalue()[:60], DecodeOptions(), MediaSettings(), 112)
