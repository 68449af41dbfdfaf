"""Reads and decodes packets, so that damage ends in a count or a note and not in an exception."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, overload

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from serve_app.media.container import Tracks, raise_if_memory

if TYPE_CHECKING:
    AudioPacket = Packet[AudioStream]
    VideoPacket = Packet[VideoStream]
else:  # generic only in the stubs
    AudioPacket = VideoPacket = Packet


def read_packets(
    container: InputContainer, tracks: Tracks, notes: list[str]
) -> "Iterator[Packet[Any]]":
    """Until the end, or the first unreadable place: it is noted, and what came before is good."""
    streams = [stream for stream in (tracks.video, tracks.audio) if stream is not None]
    try:
        for packet in container.demux(*streams):
            # An empty one means the end to a decoder; some AVI files have them midway.
            if packet.size:
                yield packet
    except av.FFmpegError as error:
        raise_if_memory(error)
        notes.append("the file is damaged; what follows the damage was not read")


@overload
def decode_packet(
    context: VideoCodecContext, packet: VideoPacket | None
) -> list[VideoFrame] | None: ...
@overload
def decode_packet(
    context: AudioCodecContext, packet: AudioPacket | None
) -> list[AudioFrame] | None: ...
def decode_packet(context: Any, packet: Any) -> Any:
    """The frames that are ready; no packet drains the decoder. None: this packet is damaged."""
    try:
        return context.decode(packet)
    except av.FFmpegError as error:
        raise_if_memory(error)
        return None
