"""Reads and decodes packets. Damage is counted or noted instead of raised."""

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
    """The packets up to the end or the first unreadable place, which is noted."""
    streams = [stream for stream in (tracks.video, tracks.audio) if stream is not None]
    try:
        for packet in container.demux(*streams):
            # An empty packet would tell the decoder to end; some AVI files have them midway.
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
    """The frames that are ready; None if the packet is damaged. `packet=None` drains the decoder."""
    try:
        return context.decode(packet)
    except av.FFmpegError as error:
        raise_if_memory(error)
        return None
