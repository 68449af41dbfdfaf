"""Statistics of a voice by librosa: loudness, pitch and pauses."""

import fcntl
import os
import stat
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from serve_app.types import SAMPLE_RATE, VoiceStatistics

FULL_SCALE = 32_768  # of an int16 sample
FLOOR_DB = -120.0

MIN_PITCH_HZ, MAX_PITCH_HZ = 65.0, 500.0  # from a low male voice to a child's
PITCH_WINDOW = 1024  # samples: 64 ms, four periods of the lowest pitch
PITCH_STEP = 0.2  # semitones; librosa's 0.1 takes three times as long
SILENCE_DB = 35.0  # below the loudest moment
MIN_PAUSE_S = 0.2

WARM_UP_S = 1.0


def voice_statistics(waveform: npt.NDArray[np.int16]) -> VoiceStatistics:
    sound = waveform.astype(np.float32) / np.float32(FULL_SCALE)
    energy = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64)))) if len(sound) else 0.0
    pitch_hz = _pitch_hz(sound)
    voiced_hz = pitch_hz[~np.isnan(pitch_hz)]
    pauses_s = _pauses_s(sound)
    return VoiceStatistics(
        energy_rms=energy,
        energy_db=max(FLOOR_DB, 20 * float(np.log10(energy))) if energy else FLOOR_DB,
        pitch_median_hz=float(np.median(voiced_hz)) if len(voiced_hz) else None,
        pitch_range_hz=float(np.ptp(np.percentile(voiced_hz, (5, 95)))) if len(voiced_hz) else None,
        voiced_share=len(voiced_hz) / max(1, len(pitch_hz)),
        num_pauses=len(pauses_s),
        pause_share=sum(pauses_s) * SAMPLE_RATE / max(1, len(sound)),
    )


def _pitch_hz(sound: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """One value per 16 ms; NaN where nothing is voiced."""
    if not sound.any():
        return np.full(1, np.nan)
    import librosa

    pitch_hz, _, _ = librosa.pyin(
        sound,
        fmin=MIN_PITCH_HZ,
        fmax=MAX_PITCH_HZ,
        sr=SAMPLE_RATE,
        frame_length=PITCH_WINDOW,
        resolution=PITCH_STEP,
    )
    return np.asarray(pitch_hz)


def _pauses_s(sound: npt.NDArray[np.float32]) -> list[float]:
    """Durations of the silences between sounds, without those before the first and after the last."""
    if not sound.any():
        return []
    from librosa.effects import split

    sounding = split(sound, top_db=SILENCE_DB, frame_length=512, hop_length=128)
    gaps_s = (sounding[1:, 0] - sounding[:-1, 1]) / SAMPLE_RATE
    return [float(gap_s) for gap_s in gaps_s if gap_s >= MIN_PAUSE_S]


def warm_up() -> None:
    """Import librosa and have numba compile what is used: 3 s, or 15 s the first time on a machine."""
    folder = _cache_dir()
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder))
    time_s = np.arange(int(WARM_UP_S * SAMPLE_RATE)) / SAMPLE_RATE
    # One process at a time: two that fill numba's cache at once may leave an index that points to the wrong
    # code, and every later process would end with a segmentation fault.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        voice_statistics((np.sin(2 * np.pi * 150 * time_s) * FULL_SCALE / 2).astype(np.int16))


def _cache_dir() -> Path:
    """A folder per user for numba's cache. Its default, next to librosa's files, is often not writable."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    usual = base / "emotion-llama-serve" / "numba"
    if usual.is_absolute() and _is_ours(usual):  # relative where there is no home folder
        return usual
    # Numba runs the code it finds there, so in a folder shared by all users it must belong to us.
    ours = Path(tempfile.gettempdir()) / f"emotion-llama-serve-{os.getuid()}"
    return ours if _is_ours(ours) else Path(tempfile.mkdtemp(prefix="emotion-llama-serve-"))


def _is_ours(folder: Path) -> bool:
    """Whether the folder, created if missing, is a real folder that only we may write to."""
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        tempfile.TemporaryFile(dir=folder).close()  # fails on a read-only mount, even for root
    except OSError:
        return False
    private = status.st_uid == os.getuid() and not status.st_mode & 0o022
    return private and stat.S_ISDIR(status.st_mode)
