"""Opens a clip's container and checks its header against the limits, before anything is decoded."""

import io
import logging
from dataclasses import dataclass

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from serve_app.errors import ClipOverLimitError, UndecodableClipError, UnsupportedClipError
from serve_app.settings import MediaSettings

PADDING_S = 0.1  # tolerance: encoders pad their last audio frame
MICROSECONDS = 1_000_000  # per second; the unit of a container's duration

# Damage is reported by our errors; libav would also write to stderr.
av.logging.set_level(None)
logging.getLogger("libav").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Tracks:
    """The streams that are decoded: the first of each kind, without cover art."""

    video: VideoStream | None
    audio: AudioStream | None


def open_container(data: bytes, settings: MediaSettings) -> InputContainer:
    """Opens `data` with the allowed demuxers only. Files or URLs that it refers to are never opened."""
    options = {"format_whitelist": ",".join(settings.containers), "protocol_whitelist": ""}
    try:
        file = io.BytesIO(data)
        container: InputContainer = av.open(
            file, container_options=options, metadata_errors="replace"
        )
    except av.FFmpegError as error:
        raise_if_memory(error)
        raise _explain(data, settings) from error
    return container


def _explain(data: bytes, settings: MediaSettings) -> UndecodableClipError | UnsupportedClipError:
    """The error for an unopenable file. libav reports `invalid data` for a damaged video and for plain text
    alike; the first bytes tell them apart."""
    container = recognise(data)
    if container in settings.containers:
        return UndecodableClipError(
            f"this is a damaged {container} file of {len(data)} bytes: its header is cut or lost"
        )
    return UnsupportedClipError(
        f"{len(data)} bytes in no supported container; allowed are {', '.join(settings.containers)}"
    )


def recognise(data: bytes) -> str | None:
    """The demuxer for a file, guessed from its first bytes; None if unknown."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
        return "mov"
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if data[:4] == b"RIFF":
        return {b"AVI ": "avi", b"WAVE": "wav", b"WEBP": "webp_pipe"}.get(data[8:12])
    starts = {b"ID3": "mp3", b"\x89PNG\r\n\x1a\n": "png_pipe", b"\xff\xd8\xff": "jpeg_pipe"}
    return next((name for start, name in starts.items() if data.startswith(start)), None)


def choose_tracks(container: InputContainer, settings: MediaSettings) -> Tracks:
    """Checks the header against the limits, chooses the streams and discards all others."""
    check_streams(container, settings)
    check_duration(header_duration_s(container), settings)
    tracks = Tracks(_first_video(container), _first_audio(container))
    if tracks.video is None and tracks.audio is None:
        raise UndecodableClipError("neither a picture nor sound is in the file")
    if tracks.video is not None:
        context = tracks.video.codec_context
        check_size(context.width, context.height, settings)
        # Decoder threads would delay the first frame, and a worker has one core.
        context.thread_type, context.thread_count = "NONE", 1
    for stream in container.streams:
        if stream not in (tracks.video, tracks.audio):
            stream.discard = Discard.all
    return tracks


def _first_video(container: InputContainer) -> VideoStream | None:
    pictures = (s for s in container.streams.video if s.codec_context is not None)
    return next((s for s in pictures if not s.disposition & Disposition.attached_pic), None)


def _first_audio(container: InputContainer) -> AudioStream | None:
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def header_duration_s(container: InputContainer) -> float | None:
    """Duration by the header; None where it has none, as in recordings of browsers."""
    return None if container.duration is None else container.duration / MICROSECONDS


def check_streams(container: InputContainer, settings: MediaSettings) -> None:
    if len(container.streams) > settings.max_streams:
        raise ClipOverLimitError(
            f"clip has {len(container.streams)} streams; the limit is {settings.max_streams}"
        )


def check_duration(duration_s: float | None, settings: MediaSettings) -> None:
    if duration_s is not None and duration_s > settings.max_duration_s + PADDING_S:
        raise ClipOverLimitError(
            f"clip lasts {duration_s:.1f} s; the limit is {settings.max_duration_s:.1f} s"
        )


def check_size(width: int, height: int, settings: MediaSettings) -> None:
    """Checks a picture's size. Called for the header, which may be wrong, and for each decoded frame."""
    if not width or not height:
        raise UndecodableClipError("no size of the picture can be read: the file is damaged")
    seen = f"picture is {width}x{height}"
    if min(width, height) < settings.min_side_px:
        raise ClipOverLimitError(f"{seen}; a side has at least {settings.min_side_px} pixels")
    if max(width, height) > settings.max_side_px:
        raise ClipOverLimitError(f"{seen}; a side has at most {settings.max_side_px} pixels")
    if width * height > settings.max_pixels:
        raise ClipOverLimitError(f"{seen}; the limit is {settings.max_pixels} pixels in all")


def raise_if_memory(error: av.FFmpegError) -> None:
    """Raise MemoryError for libav's out-of-memory error, which is a limit and not damage of the file."""
    if isinstance(error, MemoryError):
        raise error
