"""The statistics of a voice, on sounds whose pitch, loudness and pauses are known."""

import fcntl
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from serve_app.media import voice
from serve_app.media.voice import _cache_dir, voice_statistics
from serve_app.types import SAMPLE_RATE

Waveform = npt.NDArray[np.int16]


def hum(seconds: float, pitch_hz: float = 150.0, volume: float = 0.5) -> Waveform:
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    waveform: Waveform = (32767 * volume * np.sin(2 * np.pi * pitch_hz * time_s)).astype(np.int16)
    return waveform


def silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def test_pitch_and_loudness_of_a_hum() -> None:
    voice = voice_statistics(hum(1.0, 150.0, 0.5))
    assert voice.pitch_median_hz == pytest.approx(150, rel=0.02)
    assert voice.pitch_range_hz == pytest.approx(0, abs=3)
    assert voice.energy_rms == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    assert voice.energy_db == pytest.approx(-9.03, abs=0.1)
    assert voice.voiced_share > 0.9
    assert (voice.num_pauses, voice.pause_share) == (0, 0.0)


def test_range_covers_a_high_and_a_low_half() -> None:
    voice = voice_statistics(np.concatenate([hum(1.0, 120.0), hum(1.0, 240.0)]))
    assert voice.pitch_range_hz == pytest.approx(120, rel=0.05)


def test_only_silences_between_sounds_that_last_are_pauses() -> None:
    parts = [silence(0.5), hum(0.4), silence(0.5), hum(0.4), silence(0.1), hum(0.4), silence(0.5)]
    voice = voice_statistics(np.concatenate(parts))
    assert voice.num_pauses == 1
    assert voice.pause_share == pytest.approx(0.5 / 2.8, abs=0.03)


def test_silence_has_no_pitch() -> None:
    voice = voice_statistics(silence(1.0))
    assert (voice.pitch_median_hz, voice.pitch_range_hz, voice.voiced_share) == (None, None, 0.0)
    assert (voice.energy_rms, voice.energy_db) == (0.0, -120.0)


@pytest.mark.parametrize("num_samples", [0, 1, 400, 1024])
def test_very_short_sounds_have_statistics_too(num_samples: int) -> None:
    assert voice_statistics(hum(0.1)[:num_samples]).num_pauses == 0


def test_librosa_waits_until_it_is_needed() -> None:
    program = (
        "import sys, serve_app.media.pool; assert not {'librosa', 'decord'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_is_compiled_is_kept_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _cache_dir() == tmp_path / "emotion-llama-serve" / "numba"


def test_one_process_at_a_time_fills_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = threading.Event()
    monkeypatch.setenv(
        "NUMBA_CACHE_DIR", str(tmp_path)
    )  # which warm_up would set for the whole process
    monkeypatch.setattr(voice, "_cache_dir", lambda: tmp_path)
    monkeypatch.setattr(voice, "voice_statistics", lambda _: compiled.set())
    waiting = threading.Thread(target=voice.warm_up)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as another process does
        waiting.start()
        assert not compiled.wait(0.5)
    assert compiled.wait(10)
    waiting.join()


def test_without_a_writable_home_it_is_kept_with_the_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ours = tmp_path / f"emotion-llama-serve-{os.getuid()}"
    assert _cache_dir() == _cache_dir() == ours
    assert ours.stat().st_mode & 0o777 == 0o700
    ours.chmod(0o777)  # as if somebody else had made it, to have numba run what they put there
    assert _cache_dir() != ours
    ours.rmdir()
    ours.symlink_to(tmp_path)
    assert _cache_dir() not in (ours, tmp_path)
