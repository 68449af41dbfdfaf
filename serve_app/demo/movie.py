"""Encodes clips with real codecs and combines the tracks of two clips. Its output is the same every time."""

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

FRAMES_PER_S = 25
SAMPLES_PER_S = 44_100
CHUNK_SAMPLES = 1024

Pixels = npt.NDArray[np.uint8]  # (height, width, 3) RGB
Sound = npt.NDArray[np.float32]  # (num_samples,) in [-1, 1]


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
    """Writes a clip with one sound track for each sound. The suffix decides the container.

    Encoding uses one thread, so that the bytes are the same every time.
    """
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


def combine(picture: Path | None, sound: Path | None, out: Path) -> Path:
    """Combines one clip's video track with another's sound track, without re-encoding. None omits a track."""
    with av.open(str(out), "w", options={"fflags": "+bitexact"}) as container:
        sources = [
            (source.streams.video[0] if kind == "video" else source.streams.audio[0], source)
            for kind, path in (("video", picture), ("audio", sound))
            if path is not None
            for source in [av.open(str(path))]
        ]
        targets = [container.add_stream_from_template(stream) for stream, _ in sources]
        for (stream, source), target in zip(sources, targets, strict=True):
            for packet in source.demux(stream):
                if packet.dts is not None:  # the last packet is empty
                    packet.stream = target
                    container.mux(packet)
            source.close()
    return out
