"""Preprocessed clips come back unchanged, and malformed ones are refused."""

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from lib.plain_clips import face_frames, voice
from media.clips import colour_frames, encoded_tone

from serve_app.demo.movie import write_clip
from serve_app.errors import (
    ClipOverLimitError,
    ClipTooLargeError,
    InvalidRequestError,
    UndecodableClipError,
    UnsupportedClipError,
)
from serve_app.media.decode import decode_clip
from serve_app.media.pool import DecodePool
from serve_app.media.preprocessed import read_preprocessed, write_preprocessed
from serve_app.media.worker import decode_data
from serve_app.settings import MIB, MediaSettings
from serve_app.types import AudioMode, Clip, ClipSource, DecodeOptions

SIZE = 64
IMAGE = np.zeros((SIZE, SIZE, 3), np.uint8)
WAVEFORM = np.ones(16_000, np.int16)
WITH_NPZ = MediaSettings(containers=("mov", "npz"))


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array: npt.NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def read(data: bytes) -> Clip:
    return read_preprocessed(data, WITH_NPZ, SIZE)


def decode(path: Path, mode: AudioMode = "clean") -> Clip:
    return decode_clip(path.read_bytes(), DecodeOptions(audio_mode=mode), MediaSettings(), SIZE)


@pytest.mark.parametrize("mode", ["clean", "reference"])
async def test_a_clip_is_the_same_after_the_detour(tmp_path: Path, mode: AudioMode) -> None:
    clip = decode(write_clip(tmp_path / "clip.mp4", face_frames(0, 1.0), [voice(0, 1.0)]), mode)
    write_preprocessed(clip, tmp_path / "clip.npz")
    settings = WITH_NPZ.model_copy(update={"allowed_roots": (tmp_path,), "num_decode_workers": 1})
    pool = DecodePool(settings.model_copy(update={"voice": False}), SIZE)
    read = await pool.decode(ClipSource(path=str(tmp_path / "clip.npz")), DecodeOptions())
    pool.close()
    assert read.content_sha256 == clip.content_sha256
    np.testing.assert_array_equal(read.frame, clip.frame)
    np.testing.assert_array_equal(read.waveform, clip.waveform)
    assert read.duration_s == pytest.approx(clip.duration_s, abs=0.05)
    assert (read.audio_mode, read.frame_time_s) == (None, None)
    assert read.notes == ("preprocessed: which frame and audio mode it was made with is not known",)


def test_a_file_holds_the_two_arrays_and_nothing_else(tmp_path: Path) -> None:
    clip = decode(write_clip(tmp_path / "clip.mp4", face_frames(0, 1.0), [voice(0, 1.0)]))
    path = tmp_path / "clip.npz"
    path.write_bytes(b"an older one")
    write_preprocessed(clip, path)
    with np.load(path) as arrays:
        assert set(arrays) == {"image_u8", "waveform_i16"}
        assert (arrays["image_u8"].dtype, arrays["image_u8"].shape) == (np.uint8, (SIZE, SIZE, 3))
        assert (arrays["waveform_i16"].dtype, arrays["waveform_i16"].ndim) == (np.int16, 1)
    assert {entry.name for entry in tmp_path.iterdir()} == {"clip.mp4", "clip.npz"}


def test_what_is_missing_stays_missing(tmp_path: Path) -> None:
    mute = decode(write_clip(tmp_path / "mute.mp4", colour_frames(1)))
    blind = decode(encoded_tone(tmp_path / "tone.wav", 1.0, audio_codec="pcm_s16le"))
    for clip, missing in ((mute, ("audio",)), (blind, ("video",))):
        write_preprocessed(clip, tmp_path / "clip.npz")
        back = read((tmp_path / "clip.npz").read_bytes())
        assert back.missing == clip.missing == missing
        assert back.content_sha256 == clip.content_sha256


def test_silence_is_named() -> None:
    assert read(npz(image_u8=IMAGE, waveform_i16=0 * WAVEFORM)).missing == ("voice",)


def test_features_come_along() -> None:
    feature = np.ones(4, np.float32)
    data = npz(image_u8=IMAGE)
    clip = decode_data(data, {"audio_feature": feature}, DecodeOptions(), WITH_NPZ, SIZE)
    np.testing.assert_array_equal(clip.features["audio_feature"], feature)
    assert clip.content_sha256 != read(npz(image_u8=IMAGE)).content_sha256


def test_packed_and_transposed_arrays_are_read_too() -> None:
    image = np.random.default_rng(0).integers(0, 256, IMAGE.shape, dtype=np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, image_u8=np.asfortranarray(image), waveform_i16=WAVEFORM)
    clip = read(file.getvalue())
    np.testing.assert_array_equal(clip.frame, image)
    assert clip.content_sha256 == read(npz(image_u8=image, waveform_i16=WAVEFORM)).content_sha256


def test_a_server_takes_none_unless_told_to() -> None:
    data = npz(image_u8=IMAGE, waveform_i16=WAVEFORM)
    with pytest.raises(UnsupportedClipError, match="allowed are mov, matroska, avi, wav, mp3"):
        decode_data(data, {}, DecodeOptions(), MediaSettings(), SIZE)
    assert decode_data(data, {}, DecodeOptions(), WITH_NPZ, SIZE).missing == ()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npz(image_u8=IMAGE, pixels=IMAGE), r"'pixels' of uint8; allowed are image_u8 of uint8"),
        (npz(image_u8=IMAGE.astype(np.float32)), "'image_u8' of float32; allowed"),
        (npz(waveform_i16=WAVEFORM.astype(">i2")), "'waveform_i16' of >i2; allowed"),
        (npz(image_u8=IMAGE[:32]), r"image_u8 is \(32, 64, 3\); this model takes \(64, 64, 3\)"),
        (npz(waveform_i16=WAVEFORM[None]), r"waveform_i16 is \(1, 16000\); it has one axis"),
        (npz(waveform_i16=WAVEFORM[:399]), r"waveform_i16 is \(399,\); .* 400 or more"),
        (npz(waveform_i16=np.array(WAVEFORM[0])), r"waveform_i16 is \(\); it has one axis"),
        (npz(image_u8=np.array([{}])), "'image_u8' of object; allowed"),
        (npz(), "neither image_u8 nor waveform_i16"),
        (zipped({"a.txt": b"hello, this is no array"}), "'a.txt' is no array"),
        (zipped({"image_u8.npy": b""}), "'image_u8' is no array"),
        (zipped({"image_u8.npy": npy(IMAGE)[:-1]}), r"has 12415 bytes; \(64, 64, 3\) of uint8"),
        (zipped({"image_u8.npy": npy(IMAGE) + bytes(9)}), "image_u8 has 12425 bytes"),
        (zipped({"image_u8.npy": npy(IMAGE), "image_u8": npy(IMAGE)}), "the same name twice"),
        (zipped({"image_u8.npy": npy(IMAGE)}, zipfile.ZIP_BZIP2), "packed by method 12"),
        (zipped({"image_u8.npy": npy(IMAGE)}, zipfile.ZIP_LZMA), "packed by method 14"),
        (b"PK\x03\x04" + bytes(200), "the npz cannot be read"),
    ],
)
def test_an_odd_npz_is_refused_by_what_is_wrong_with_it(data: bytes, message: str) -> None:
    with pytest.raises(UndecodableClipError, match=message):
        read(data)


def test_a_waveform_over_the_limit_is_refused() -> None:
    data = zipped({"waveform_i16.npy": npy(np.zeros(61 * 16_000, np.int16))})
    with pytest.raises(ClipOverLimitError, match=r"clip lasts 61\.0 s; the limit is 60\.0 s"):
        read(data)


def test_more_bytes_than_the_arrays_can_have_are_refused() -> None:
    with pytest.raises(ClipTooLargeError, match="the limit is 2001024 bytes"):
        read(npz(image_u8=IMAGE) + bytes(2 * MIB))


def lying(data: bytes, num_bytes: int) -> bytes:
    """The same archive, with a wrong size of its one member in the zip directory."""
    at = data.index(b"PK\x01\x02") + 24
    return data[:at] + num_bytes.to_bytes(4, "little") + data[at + 4 :]


@pytest.mark.parametrize("claims", [None, len(npy(IMAGE))])
def test_a_bomb_is_not_expanded(claims: int | None) -> None:
    bomb = zipped({"image_u8.npy": npy(IMAGE) + bytes(64 * MIB)})
    assert len(bomb) < MIB
    data = bomb if claims is None else lying(bomb, claims)
    tracemalloc.start()
    with pytest.raises(UndecodableClipError):
        read(data)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < MIB


def test_a_header_that_claims_the_world_is_refused() -> None:
    wide, claimed = b"(16000,), }" + b" " * 8, b"(1000000000000,), }"
    header = npy(WAVEFORM)[:128].replace(wide, claimed)
    assert claimed in header and len(header) == 128
    with pytest.raises(ClipOverLimitError, match=r"clip lasts 62500000\.0 s"):
        read(zipped({"waveform_i16.npy": header + bytes(100)}))


@pytest.mark.parametrize("seed", range(100))
def test_no_damage_escapes_our_errors(seed: int) -> None:
    random = np.random.default_rng(seed)
    broken = bytearray(zipped({"image_u8.npy": npy(IMAGE), "waveform_i16.npy": npy(WAVEFORM)}))
    for position in random.integers(4, len(broken), 8):
        broken[position] = random.integers(0, 256)
    try:
        clip = read(bytes(broken))
    except (UndecodableClipError, ClipOverLimitError):
        return
    assert clip.frame is not None or clip.waveform is not None


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    clip = read(npz(image_u8=IMAGE))
    with pytest.raises(
        InvalidRequestError, match=r"none/clip\.npz cannot be written: No such file"
    ):
        write_preprocessed(clip, tmp_path / "none" / "clip.npz")
    with pytest.raises(InvalidRequestError, match="Is a directory"):
        write_preprocessed(clip, tmp_path)
    assert list(tmp_path.parent.glob(f".{tmp_path.name}*")) == []
