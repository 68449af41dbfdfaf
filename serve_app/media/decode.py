"""Decodes one clip into a frame and a waveform, in one pass over its packets."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any, get_args

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard

from serve_app.errors import InvalidRequestError, UndecodableClipError
from serve_app.media.audio import AudioCollector
from serve_app.media.container import (
    Tracks,
    check_duration,
    choose_tracks,
    header_duration_s,
    open_container,
)
from serve_app.media.frames import ChosenFrame, FirstFrame, FrameFinder, check_choice
from serve_app.media.packets import read_packets
from serve_app.media.picture import to_pixels
from serve_app.media.reference_audio import ReferenceCollector, stated_duration_us
from serve_app.media.timeline import shown_until_s
from serve_app.media.video import VideoDecoder
from serve_app.settings import MediaSettings
from serve_app.types import AudioMode, Clip, DecodeOptions, Features

# What PyAV raises over damaged files besides its own errors: empty lists, numbers that do not fit,
# names that are not text.
DAMAGE = (av.FFmpegError, ValueError, LookupError, ArithmeticError)

NO_FEATURES: Features = MappingProxyType({})


def decode_clip(
    data: bytes, options: DecodeOptions, settings: MediaSettings, image_size: int
) -> Clip:
    """Decode a clip. The caller fills in the voice statistics and timings.

    Raises one of errors.py's classes, whatever the bytes are, or MemoryError.
    """
    check_choice(options.frame)
    _check_mode(options.audio_mode)
    try:
        with open_container(data, settings) as container:
            return _decode(container, data, options, settings, image_size)
    except MemoryError as error:  # re-raised without libav's subclass, which cannot be pickled
        raise MemoryError(str(error)) from None
    except DAMAGE as error:
        raise UndecodableClipError(f"decoding failed: {error}") from error


def _decode(
    container: InputContainer,
    data: bytes,
    options: DecodeOptions,
    settings: MediaSettings,
    image_size: int,
) -> Clip:
    tracks = choose_tracks(container, settings)
    video = VideoDecoder(tracks.video) if tracks.video else None
    finder = _finder(video, data, options, settings, image_size) if video else None
    audio = _collector(tracks.audio, container, data, options, settings) if tracks.audio else None

    notes: list[str] = []
    seen_s = _feed(read_packets(container, tracks, notes), tracks, finder, audio)
    check_duration(seen_s, settings)
    picture = finder.finish() if finder else None
    waveform = audio.finish() if audio else None
    if picture is None and waveform is None:
        raise UndecodableClipError("neither a picture nor sound could be decoded")
    pixels = to_pixels(picture.image, image_size) if picture else None
    return Clip(
        sha256=hashlib.sha256(data).hexdigest(),
        content_sha256=content_sha256(pixels, waveform),
        frame=pixels,
        frame_time_s=picture.time_s if picture else None,
        waveform=waveform,
        duration_s=header_duration_s(container) or max(seen_s, audio.duration_s if audio else 0.0),
        missing=missing_parts(pixels, waveform),
        notes=(*notes, *(video.notes() if video else ()), *(audio.notes() if audio else ())),
        audio_mode=options.audio_mode,
    )


def content_sha256(
    frame: npt.NDArray[np.uint8] | None,
    waveform: npt.NDArray[np.int16] | None,
    features: Features = NO_FEATURES,
) -> str:
    """Hash of pixels, sound and features: independent of the file, options or decoder they came from."""
    content = hashlib.sha256()
    for name, array in (("frame", frame), ("waveform", waveform), *sorted(features.items())):
        if array is not None:  # name and shape separate the arrays from each other
            content.update(f"{name}{array.shape}".encode())
            content.update(np.ascontiguousarray(array).data)
    return content.hexdigest()


def with_features(clip: Clip, features: Features) -> Clip:
    """The clip with these ready features, which become part of its content hash."""
    content = content_sha256(clip.frame, clip.waveform, features)
    return replace(clip, features=features, content_sha256=content)


def _check_mode(mode: AudioMode) -> None:
    if mode not in get_args(AudioMode):
        allowed = ", ".join(get_args(AudioMode))
        raise InvalidRequestError(f"audio_mode is {mode!r}; allowed are {allowed}")


def _collector(
    stream: AudioStream,
    container: InputContainer,
    data: bytes,
    options: DecodeOptions,
    settings: MediaSettings,
) -> AudioCollector:
    if options.audio_mode == "reference":
        return ReferenceCollector(stream, settings, stated_duration_us(container, data))
    return AudioCollector(stream, settings)


def _finder(
    video: VideoDecoder,
    data: bytes,
    options: DecodeOptions,
    settings: MediaSettings,
    image_size: int,
) -> FrameFinder:
    if options.frame == "first":
        return FirstFrame(video, settings)
    return ChosenFrame(options.frame, video, data, settings, image_size)


def _feed(
    packets: "Iterator[Packet[Any]]",
    tracks: Tracks,
    finder: FrameFinder | None,
    audio: AudioCollector | None,
) -> float:
    """Feed all packets. Returns the end of the last video packet in seconds, since headers may be wrong."""
    end_s = 0.0
    for packet in packets:
        if audio and packet.stream is tracks.audio:
            audio.feed(packet)
        elif finder:
            end_s = max(end_s, shown_until_s(packet))
            if not finder.done:
                finder.feed(packet)
            elif audio:  # the sound gives the duration: the remaining video need not be read
                packet.stream.discard = Discard.all
    return end_s


def missing_parts(
    frame: npt.NDArray[np.uint8] | None, waveform: npt.NDArray[np.int16] | None
) -> tuple[str, ...]:
    video = () if frame is not None else ("video",)
    if waveform is None:
        return (*video, "audio")
    return video if waveform.any() else (*video, "voice")
