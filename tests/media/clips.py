"""The odd files the tests need, made by PyAV: no binary is kept in the repository."""

import struct
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from serve_app.demo.movie import FRAMES_PER_S, SAMPLES_PER_S, Pixels, Sound, write_clip

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))  # of seconds 0, 1, 2, 3


def tone(seconds: float, pitch_hz: float = 440.0, volume: float = 0.5) -> Sound:
    time_s = np.arange(round(seconds * SAMPLES_PER_S)) / SAMPLES_PER_S
    sound: Sound = (volume * np.sin(2 * np.pi * pitch_hz * time_s)).astype(np.float32)
    return sound


def colour_frames(seconds: int, width: int = 320, height: int = 240) -> Iterator[Pixels]:
    """Each second of the video has its own colour."""
    for second in range(seconds):
        yield from [np.full((height, width, 3), COLOURS[second], np.uint8)] * FRAMES_PER_S


def blurred_frames(num_frames: int, sharp: int) -> Iterator[Pixels]:
    """Noise, blurred in every frame but number `sharp`."""
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    blurred = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4)))
    return (noise if index == sharp else blurred for index in range(num_frames))


def plain_frames(num_frames: int, width: int, height: int) -> Iterator[Pixels]:
    return (np.full((height, width, 3), 128, np.uint8) for _ in range(num_frames))


def colour_clip(folder: Path, seconds: int = 3, **encoding: object) -> Path:
    """A normal clip: a colour per second, a tone."""
    frames, sound = colour_frames(seconds), tone(seconds)
    return write_clip(folder / "colours.mp4", frames, [sound], **encoding)  # type: ignore[arg-type]


def cover_art_m4a(folder: Path) -> Path:
    """Sound, and a picture that is a cover and not a video."""
    path = folder / "cover.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        audio = container.add_stream("aac", SAMPLES_PER_S, layout="mono")
        cover = container.add_stream("mjpeg", 1)
        cover.width = cover.height = 200
        cover.pix_fmt = "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        pixels = np.zeros((200, 200, 3), np.uint8)
        container.mux(cover.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(tone(1.0)[np.newaxis], "fltp", "mono")
        frame.sample_rate = SAMPLES_PER_S
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def rotated(data: bytes, degrees: int) -> bytes:
    """The same mp4 with a display matrix of `degrees`, clockwise, in its video's track header."""
    matrices = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    a, b, c, d = (value << 16 for value in matrices[degrees])
    at = data.index(b"tkhd") + 4 + 4 + 8 + 4 + 4 + 4 + 8 + 8  # the fields of a version-0 header
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    return data[:at] + matrix + data[at + len(matrix) :]


def claiming(data: bytes, seconds: float) -> bytes:
    """The same Matroska file with another duration in its header. (Of an mp4 libav adds it up.)"""
    at = data.index(b"\x44\x89\x88") + 3  # the element's name and its size, 8 bytes
    return data[:at] + struct.pack(">d", seconds * 1000) + data[at + 8 :]


def damaged(data: bytes, num_bytes: int = 40) -> bytes:
    """Random bytes replaced in the media data of a faststart mp4."""
    random = np.random.default_rng(1)
    start = data.index(b"mdat") + 4
    broken = bytearray(data)
    for position in random.integers(start, len(data), num_bytes):
        broken[position] = random.integers(0, 256)
    return bytes(broken)


def blank_packets(path: Path, num_packets: int) -> bytes:
    """The same file with nothing but zeros in the first packets of its video."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for packet in packets[:num_packets]:
        at = data.index(packet)
        data[at : at + len(packet)] = bytes(len(packet))
    return bytes(data)


def ten_bit_clip(path: Path, frames: Iterator[Pixels]) -> Path:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", FRAMES_PER_S)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p10le"
        for pixels in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(video.encode(None))
    return path


def encoded_tone(path: Path, seconds: float, **encoding: object) -> Path:
    return write_clip(path, (), [tone(seconds)], **encoding)  # type: ignore[arg-type]


def mean_colour(frame: npt.NDArray[np.uint8] | None) -> tuple[int, int, int]:
    assert frame is not None
    red, green, blue = frame.reshape(-1, 3).mean(axis=0).round().astype(int).tolist()
    return red, green, blue
