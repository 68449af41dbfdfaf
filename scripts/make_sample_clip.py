"""Makes a small clip: a drawn face that opens its mouth, and a voice-like tone; always the same.

    python scripts/make_sample_clip.py serve_app/assets/sample.mp4

made the one in the package. Another --seed gives another face with another voice.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 320, 240
FRAMES_PER_S = 25
SAMPLES_PER_S = 44_100
SYLLABLES_PER_S = 3.0
SECONDS = 2.0
CHUNK_SAMPLES = 1024

Pixels = npt.NDArray[np.uint8]  # (height, width, 3) RGB
Sound = npt.NDArray[np.float32]  # (num_samples,) in [-1, 1]


def face_frames(seed: int, seconds: float) -> Iterator[Pixels]:
    for index in range(round(seconds * FRAMES_PER_S)):
        yield draw_face(seed, loudness(np.array(index / FRAMES_PER_S)).item())


def draw_face(seed: int, mouth_open: float) -> Pixels:
    """`mouth_open` is 0 for a line and 1 for wide open. The seed chooses the colours."""
    random = np.random.default_rng(seed)
    wall = tuple(random.integers(40, 120, 3).tolist())
    skin = tuple((random.integers(150, 240) * np.array([1.0, 0.8, 0.65])).astype(int).tolist())
    image = Image.new("RGB", (WIDTH, HEIGHT), wall)
    draw = ImageDraw.Draw(image)
    draw.ellipse((95, 25, 225, 215), fill=skin)
    for x in (130, 190):
        draw.ellipse((x - 13, 85, x + 13, 105), fill="white")
        draw.ellipse((x - 6, 88, x + 6, 102), fill=(40, 30, 20))
        draw.arc((x - 18, 68, x + 18, 96), 200, 340, fill=(60, 40, 30), width=3)
    draw.line((160, 105, 154, 140, 163, 142), fill=(120, 80, 60), width=2)
    draw.ellipse((135, 168 - 12 * mouth_open, 185, 172 + 14 * mouth_open), fill=(130, 30, 40))
    return np.asarray(image)


def voice(seed: int, seconds: float) -> Sound:
    """Harmonics of a gliding pitch, weighted like a vowel, in syllables."""
    time_s = np.arange(round(seconds * SAMPLES_PER_S)) / SAMPLES_PER_S
    pitch_hz = np.random.default_rng(seed).uniform(110, 230)
    phase = 2 * np.pi * (pitch_hz * time_s + 3 * np.sin(2 * np.pi * 0.7 * time_s))
    harmonics = np.arange(1, 16)
    distances_hz = harmonics * pitch_hz - np.array([[600], [1200]])  # from the formants
    weights = 0.1 + np.exp(-((distances_hz / 250) ** 2)).sum(axis=0)
    sound = weights @ np.sin(np.outer(harmonics, phase))
    shaped: Sound = (0.5 * loudness(time_s) * sound / np.abs(sound).max()).astype(np.float32)
    return shaped


def loudness(time_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """0 to 1, falling silent between syllables."""
    wave: npt.NDArray[np.float64] = np.sin(2 * np.pi * SYLLABLES_PER_S * time_s)
    return wave.clip(min=0.0)


def write_clip(
    path: Path,
    frames: Iterable[Pixels] = (),
    sounds: Sequence[Sound] = (),
    *,
    video_codec: str = "libx264",
    video_options: dict[str, str] | None = None,
    audio_codec: str = "aac",
    sample_rate: int = SAMPLES_PER_S,
    layout: Literal["mono", "stereo"] = "stereo",
    container_options: dict[str, str] | None = None,
) -> Path:
    """One track per sound. The suffix names the container; one thread: repeatable bytes."""
    pictures = list(frames)
    options = {"fflags": "+bitexact", **(container_options or {})}
    with av.open(str(path), "w", options=options) as container:
        video = _add_video(container, video_codec, pictures[0], video_options) if pictures else None
        tracks = [_add_audio(container, audio_codec, sample_rate, layout) for _ in sounds]
        if video is not None:
            container.mux(_encoded(video, (av.VideoFrame.from_ndarray(p) for p in pictures)))
        for track, sound in zip(tracks, sounds, strict=True):
            container.mux(_encoded(track, _audio_frames(sound, sample_rate, layout)))
    return path


def _add_video(
    container: OutputContainer, codec: str, pixels: Pixels, options: dict[str, str] | None
) -> VideoStream:
    stream = container.add_stream(codec, FRAMES_PER_S, options=options or {})
    assert isinstance(stream, VideoStream)
    stream.height, stream.width = pixels.shape[:2]
    stream.pix_fmt = "yuv420p"
    _make_repeatable(stream)
    return stream


def _add_audio(
    container: OutputContainer, codec: str, sample_rate: int, layout: str
) -> AudioStream:
    stream = container.add_stream(codec, sample_rate, layout=layout)
    assert isinstance(stream, AudioStream)
    _make_repeatable(stream)
    return stream


def _make_repeatable(stream: VideoStream | AudioStream) -> None:
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= Flags.bitexact


def _audio_frames(sound: Sound, sample_rate: int, layout: str) -> Iterator[av.AudioFrame]:
    channels = np.stack([sound.astype(np.float32)] * (2 if layout == "stereo" else 1))
    for start in range(0, len(sound), CHUNK_SAMPLES):
        chunk = np.ascontiguousarray(channels[:, start : start + CHUNK_SAMPLES])
        frame = av.AudioFrame.from_ndarray(chunk, "fltp", layout)
        frame.sample_rate, frame.pts = sample_rate, start
        frame.time_base = Fraction(1, sample_rate)
        yield frame


def _encoded(stream: Any, frames: Iterable[Any]) -> "list[Packet[Any]]":
    packets = [packet for frame in frames for packet in stream.encode(frame)]
    return packets + list(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    args = parser.parse_args()
    frames, sound = face_frames(args.seed, args.seconds), voice(args.seed, args.seconds)
    write_clip(args.out, frames, [sound])
    print(f"{args.out}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
