"""Decodes the requested frame of the video, and as few others as possible."""

from collections.abc import Iterator

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from serve_app.media.packets import VideoPacket, decode_packet
from serve_app.media.timeline import shown_at


class VideoDecoder:
    """The decoder of one stream; it counts the damaged packets it skips."""

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        self.num_damaged = 0

    @property
    def size(self) -> tuple[int, int]:
        context = self._stream.codec_context
        return context.width, context.height

    def notes(self) -> list[str]:
        """Notes about worked-around damage."""
        return [f"damaged packets of video skipped: {self.num_damaged}"] if self.num_damaged else []

    def decode(self, packet: VideoPacket | None) -> list[VideoFrame]:
        """Decode one packet; None drains the decoder."""
        frames = decode_packet(self._stream.codec_context, packet)
        self.num_damaged += frames is None
        return frames or []

    def decode_opening(self, packet: VideoPacket) -> list[VideoFrame]:
        """Decode the first packet without waiting for the frames that the decoder collects for reordering."""
        frames = self.decode(packet)
        opens = packet.is_keyframe and packet.pts == self._stream.start_time
        if frames or packet.is_discard or not opens:
            return frames
        frames = self.decode(None)
        if frames and not frames[0].interlaced_frame:  # its second field may be in the next packet
            return frames
        self._stream.codec_context.flush_buffers()
        return self.decode(packet)

    def decode_all(self, packets: list[VideoPacket]) -> Iterator[VideoFrame]:
        """Decodes from the first packet, which is a key frame, to the end."""
        self._stream.codec_context.flush_buffers()
        for packet in (*packets, None):
            yield from self.decode(packet)


def frame_at(target: int, decoder: VideoDecoder, packets: list[VideoPacket]) -> VideoFrame | None:
    """The first frame at or after the tick `target`, or the last frame if there is none."""
    start = _last_key(packets, target)
    return _frame_from(target, decoder, packets[start:]) or _frame_from(target, decoder, packets)


def _frame_from(
    target: int, decoder: VideoDecoder, packets: list[VideoPacket]
) -> VideoFrame | None:
    frame = None
    for frame in decoder.decode_all(packets):
        if frame.pts is not None and frame.pts >= target:
            break
    return frame


def _last_key(packets: list[VideoPacket], target: int) -> int:
    """Index of the last key frame shown no later than `target`, where decoding can start."""
    keys = (i for i, p in enumerate(packets) if p.is_keyframe and shown_at(p) <= target)
    return max(keys, default=0)
