"""emotion-llama preprocess: a file, one line about it, and errors before any work is done."""

from pathlib import Path

import numpy as np
import pytest

from serve_app.bundled import SAMPLE
from serve_app.cli import main
from serve_app.media.decode import decode_clip
from serve_app.settings import MediaSettings
from serve_app.types import DecodeOptions


def preprocess(out: Path, *arguments: str) -> int:
    return main(["preprocess", str(SAMPLE), "--out", str(out), *arguments])


def test_what_is_written_is_what_decoding_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "clip.npz"
    arguments = ("--audio-mode", "reference", "--frame", "0.5", "--image-size", "224")
    assert preprocess(out, *arguments) == 0
    options = DecodeOptions(frame=0.5, audio_mode="reference")
    clip = decode_clip(SAMPLE.read_bytes(), options, MediaSettings(), 224)
    with np.load(out) as arrays:
        np.testing.assert_array_equal(arrays["image_u8"], clip.frame)
        np.testing.assert_array_equal(arrays["waveform_i16"], clip.waveform)
    assert clip.waveform is not None and len(clip.waveform) > 30_000
    (line,) = capsys.readouterr().out.splitlines()
    for part in (
        f"{out}: image (224, 224, 3) of 0.52 s, waveform {clip.waveform.shape}, reference audio",
        f"clip of {clip.duration_s:.2f} s, missing nothing",
        f"sha256 {clip.sha256}, content {clip.content_sha256}",
    ):
        assert part in line


def test_the_checkpoint_tells_the_size(tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert preprocess(tmp_path / "clip.npz", "--model", str(tiny_checkpoint)) == 0
    with np.load(tmp_path / "clip.npz") as arrays:
        assert arrays["image_u8"].shape == (448, 448, 3)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--image-size", "0"], 2, "--image-size is 0; expected 1 to 4096"),
        (["--frame", "blurriest"], 2, "frame is 'blurriest'; allowed are first"),
        (["--frame", "9"], 2, "frame at 9.00 s is beyond the video, which lasts 2.00 s"),
        (["--model", "/none"], 1, "/none/config.json does not exist"),
    ],
)
def test_what_is_asked_wrongly_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    assert preprocess(tmp_path / "clip.npz", *arguments) == status
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preprocess(tmp_path / "none" / "clip.npz") == 2
    assert f"the folder {tmp_path}/none does not exist" in capsys.readouterr().err


def test_a_clip_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preprocess", "/none.mp4", "--out", str(tmp_path / "clip.npz")]) == 2
    assert "Video file not found" in capsys.readouterr().err
