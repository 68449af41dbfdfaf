"""The original's sound against a slow reimplementation, and against recordings of the original."""

import contextlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from lib.plain_clips import face_frames, voice
from media.clips import colour_frames, encoded_tone, tone

from serve_app.demo.movie import write_clip
from serve_app.errors import ClipOverLimitError, InvalidRequestError, ServeAppError
from serve_app.media.decode import decode_clip
from serve_app.media.movie_header import movie_duration_us
from serve_app.media.reference_audio import Pcm, printed_duration_s, reference_waveform
from serve_app.settings import MediaSettings
from serve_app.types import SAMPLE_RATE, Clip, DecodeOptions

GOLDENS = Path(__file__).parents[3] / "shared" / "goldens" / "open" / "golden.npz"
CLIPS = GOLDENS.parents[2] / "clips"


class Reader:
    """moviepy's audio reader, frame by frame, with a list in place of its pipe from ffmpeg."""

    def __init__(self, pcm: Pcm, duration_s: float) -> None:
        self.pipe = [(int(left), int(right)) for left, right in pcm]
        self.buffersize = min(math.floor(44100 * duration_s) + 1, 200000)
        self.buffer: list[tuple[int, int]] | None = None
        self.startframe = 1
        self.buffer_around(1)

    def read_chunk(self, size: int) -> list[tuple[int, int]]:
        chunk, self.pipe = self.pipe[:size], self.pipe[size:]
        return chunk

    def buffer_around(self, frame: int) -> None:
        new_start = frame - self.buffersize // 2
        if new_start < 0:
            new_start = 0
        if self.buffer is None:
            self.buffer = self.read_chunk(self.buffersize)
        elif new_start < self.startframe + self.buffersize < new_start + self.buffersize:
            conserved = self.startframe + self.buffersize - new_start + 1
            self.buffer = self.buffer[-conserved:] + self.read_chunk(self.buffersize - conserved)
        # else it begins again at the same frame, the first one, and holds what it held
        self.startframe = new_start

    def get_frames(self, times: list[float]) -> list[tuple[int, int]]:
        assert self.buffer is not None
        frames = [round(44100 * time) for time in times]  # Python's round, too, is half to even
        for frame in (min(frames), max(frames)):
            if not self.startframe <= frame < self.startframe + len(self.buffer):
                self.buffer_around(frame)
                break
        result = []
        for frame in frames:
            index = frame - self.startframe
            if len(self.buffer) < self.buffersize // 2:
                index -= self.buffersize // 2 - len(self.buffer) + 1
            if index >= len(self.buffer):
                index = -1
            result.append(self.buffer[index])
        return result


def slow_waveform(pcm: Pcm, duration_s: float) -> list[int]:
    reader = Reader(pcm, duration_s)
    total = math.floor(16000 * duration_s)
    num_chunks = total // 2000 + 1
    step = total / num_chunks
    starts = [*(int(chunk * step) for chunk in range(num_chunks)), total]
    mono = []
    for start, end in itertools.pairwise(starts):
        for left, right in reader.get_frames([(1 / 16000) * index for index in range(start, end)]):
            sum_ = sum(max(-32440, min(32440, side)) for side in (left, right))
            mono.append((sum_ + 1) // 2)
    return mono


def noise(seconds: float) -> Pcm:
    random = np.random.default_rng(round(seconds * 100))
    return random.integers(-32768, 32768, (round(seconds * 44100), 2), dtype=np.int16)


@pytest.mark.parametrize(
    ("duration_s", "sound_s"),
    [
        (1.0, 1.0),
        (0.13, 0.13),
        (2.29, 2.27),  # the usual clip: the sound ends a little earlier
        (3.0, 1.6),  # more than half of the buffer
        (3.0, 1.2),  # less than half of it: addressed from the wrong end
        (3.0, 0.8),  # near a quarter: below it the original fails
        (4.35, 4.4),
        (5.0, 4.98),  # longer than the buffer
        (13.56, 13.5),  # six refills
        (8.0, 5.0),
        (8.0, 1.4),
        (2.0, 7.0),  # the sound goes on after the end
        (6.0, 12.0),
    ],
)
def test_it_equals_moviepys_reader(duration_s: float, sound_s: float) -> None:
    pcm = noise(sound_s)
    waveform = reference_waveform(pcm, duration_s)
    assert waveform.dtype == np.int16
    np.testing.assert_array_equal(waveform, slow_waveform(pcm, duration_s))


def test_sound_under_a_quarter_of_the_buffer_is_drawn_out_and_not_an_error() -> None:
    pcm = noise(0.5)
    waveform = reference_waveform(pcm, 3.0)
    assert len(waveform) == 3 * SAMPLE_RATE
    assert waveform[0] == (pcm[0].clip(-32440, 32440).astype(int).sum() + 1) >> 1


def test_loud_sound_is_cut_at_99_percent_and_halves_are_rounded_up() -> None:
    pcm = np.array([[32767, 32767], [-32768, -32768], [1, 0], [-1, 0]], np.int16)
    waveform = reference_waveform(np.repeat(pcm, 110, axis=0), 0.01)
    assert sorted(set(waveform.tolist())) == [-32440, 0, 1, 32440]


def test_no_duration_is_no_sound() -> None:
    assert len(reference_waveform(noise(0.1), 0.0)) == 0


@pytest.mark.parametrize(
    ("duration_us", "printed"),
    [(0, 0.0), (4_759_999, 4.76), (4_755_000, 4.76), (4_754_999, 4.75), (68_040_000, 60.0 + 8.04)],
)
def test_durations_are_rounded_to_centiseconds(duration_us: int, printed: float) -> None:
    assert printed_duration_s(duration_us) == printed  # to the last bit


assert 60.0 + 8.04 != 68.04, "the last bit tells how moviepy adds minutes"


def decode(path: Path, **settings: object) -> Clip:
    options = DecodeOptions(audio_mode="reference")
    return decode_clip(path.read_bytes(), options, MediaSettings.model_validate(settings), 224)


def test_a_clip_has_a_sample_for_every_sixteenth_of_its_milliseconds(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", face_frames(0, 1.52), [voice(0, 1.4)])
    waveform = decode(path).waveform
    assert waveform is not None
    assert waveform.shape == (1.52 * SAMPLE_RATE,) and waveform.dtype == np.int16


def test_a_tone_keeps_its_pitch_and_loudness(tmp_path: Path) -> None:
    waveform = decode(encoded_tone(tmp_path / "tone.wav", 1.0, audio_codec="pcm_s16le")).waveform
    assert waveform is not None
    assert np.argmax(np.abs(np.fft.rfft(waveform))) == 440  # over exactly one second
    assert np.abs(waveform).max() / 32768 == pytest.approx(0.5, abs=0.02)


def test_uncompressed_sound_is_picked_sample_by_sample(tmp_path: Path) -> None:
    sound = voice(3, 2.0)
    path = write_clip(tmp_path / "clip.mov", face_frames(3, 2.0), [sound], audio_codec="pcm_s16le")
    indices = np.arange(2 * SAMPLE_RATE)
    indices = indices[indices % 160 != 80]  # those lie halfway between two samples of the source
    waveform = decode(path).waveform
    assert waveform is not None
    expected = np.round(sound * 32768)[np.round(indices * 441 / 160).astype(int)]
    assert np.abs(waveform[indices] - expected).max() <= 1


def test_what_no_filter_removes_is_heard_at_another_pitch(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "high.mov", colour_frames(1), [tone(1.0, 15_000.0)], audio_codec="pcm_s16le"
    )
    waveform = decode(path).waveform
    assert waveform is not None
    assert np.argmax(np.abs(np.fft.rfft(waveform))) == 1000
    clean = decode_clip(path.read_bytes(), DecodeOptions(), MediaSettings(), 224).waveform
    assert clean is not None and np.abs(clean[1000:-1000]).max() < 100


def test_the_clip_tells_its_mode_and_its_content_differs(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", face_frames(0, 1.0), [voice(0, 1.0)])
    reference = decode(path)
    clean = decode_clip(path.read_bytes(), DecodeOptions(), MediaSettings(), 224)
    assert (clean.audio_mode, reference.audio_mode) == ("clean", "reference")
    assert clean.content_sha256 != reference.content_sha256
    np.testing.assert_array_equal(clean.frame, reference.frame)


def test_a_mode_that_is_none_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", colour_frames(1), [tone(1.0)])
    options = DecodeOptions(audio_mode="loud")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="'loud'; allowed are clean, reference"):
        decode_clip(path.read_bytes(), options, MediaSettings(), 224)


def test_what_the_original_cannot_do_is_noted(tmp_path: Path) -> None:
    early = write_clip(tmp_path / "early.mp4", colour_frames(3), [tone(0.3)])
    assert decode(early).notes == ("the original fails on this clip: its sound ends too early",)
    live = tmp_path / "live.mkv"
    write_clip(live, colour_frames(1), [tone(1.0)], container_options={"live": "1"})
    assert decode(live).notes == ("the original refuses this clip: its header states no duration",)


def test_sound_too_short_for_the_model_is_missing_with_a_note(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "blip.mp4", colour_frames(1), [tone(1.0)])
    path.write_bytes(header_claiming(path.read_bytes(), 20))
    clip = decode(path)
    assert clip.missing == ("audio",)
    assert clip.notes == ("320 samples of sound were dropped; 400 are needed",)


def header_claiming(data: bytes, milliseconds: int, *, unit_per_s: int = 1000) -> bytes:
    """The same mp4 with another duration in its movie header; its tracks last as long as before."""
    at = data.index(b"mvhd") + 4 + 4 + 8
    fields = unit_per_s.to_bytes(4, "big") + milliseconds.to_bytes(4, "big")
    return data[:at] + fields + data[at + 8 :]


def test_the_movie_header_of_an_mp4_is_believed(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", colour_frames(1), [tone(1.0)])
    path.write_bytes(header_claiming(path.read_bytes(), 1250))
    waveform = decode(path).waveform
    assert waveform is not None and len(waveform) == 1.25 * SAMPLE_RATE


def test_a_movie_header_over_the_limit_is_rejected(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", colour_frames(1), [tone(1.0)])
    path.write_bytes(header_claiming(path.read_bytes(), 4_000_000_000))
    with pytest.raises(ClipOverLimitError, match=r"clip lasts 4000000\.0 s; the limit is 60\.0 s"):
        decode(path)


@pytest.mark.parametrize("milliseconds", [0, 2**32 - 1])
def test_a_movie_header_that_says_nothing_is_not_believed(
    tmp_path: Path, milliseconds: int
) -> None:
    data = write_clip(tmp_path / "clip.mp4", colour_frames(1)).read_bytes()
    assert movie_duration_us(data) == 1_000_000
    assert movie_duration_us(header_claiming(data, milliseconds)) is None


def test_only_a_whole_mp4_has_a_movie_header(tmp_path: Path) -> None:
    fragmented = write_clip(
        tmp_path / "fragmented.mp4",
        colour_frames(2),
        video_options={"g": "25"},
        container_options={"movflags": "frag_keyframe"},  # its movie header tells of the first one
    )
    matroska = write_clip(tmp_path / "clip.mkv", colour_frames(1))
    whole = write_clip(tmp_path / "clip.mp4", colour_frames(1)).read_bytes()
    cut = whole[: whole.index(b"mvhd") + 10]
    for data in (fragmented.read_bytes(), matroska.read_bytes(), cut, b"", bytes(100)):
        assert movie_duration_us(data) is None
    moov = whole[whole.index(b"moov") - 4 :]
    wide = b"\0\0\0\1free" + (16).to_bytes(8, "big")  # a size of 64 bits
    assert movie_duration_us(wide + moov) == movie_duration_us(bytes(3) + b"\x08free" + moov)
    assert movie_duration_us(wide + moov) == 1_000_000


def test_a_movie_header_with_wide_fields_is_read() -> None:
    fields = b"\1\0\0\0" + bytes(16) + (600).to_bytes(4, "big") + (1500).to_bytes(8, "big")
    assert movie_duration_us(box(b"moov", box(b"mvhd", fields))) == 2_500_000


def box(name: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + name + content


@pytest.mark.parametrize("seed", range(20))
def test_no_damage_to_the_header_escapes_our_errors(tmp_path: Path, seed: int) -> None:
    options = {"movflags": "faststart"}
    path = write_clip(
        tmp_path / "clip.mp4", colour_frames(1), [tone(1.0)], container_options=options
    )
    random, broken = np.random.default_rng(seed), bytearray(path.read_bytes())
    for position in random.integers(32, broken.index(b"mdat"), 30):
        broken[position] = random.integers(0, 256)
    path.write_bytes(broken)
    with contextlib.suppress(ServeAppError):
        decode(path)


@pytest.mark.shared
@pytest.mark.skipif(not GOLDENS.exists(), reason=f"no {GOLDENS}")
@pytest.mark.parametrize("name", ["sample_00004671", "sample_00000338"])
def test_it_equals_what_the_original_recorded(name: str) -> None:
    data = (CLIPS / f"{name}.mp4").read_bytes()
    clip = decode_clip(data, DecodeOptions(audio_mode="reference"), MediaSettings(), 448)
    with np.load(GOLDENS) as recorded:
        pixels, waveform = recorded[f"{name}/image_u8"], recorded[f"{name}/audio_i16"]
    assert clip.waveform is not None and len(clip.waveform) == len(waveform)
    np.testing.assert_array_equal(clip.frame, pixels)
    # Not always equal: decoders of AAC differ in how they round.
    difference = np.abs(clip.waveform.astype(int) - waveform)
    assert difference.max() <= 1 and np.mean(difference == 0) > 0.999
