"""Finds the frame the model sees: the first, the middle, the sharpest, or the one at a given time."""

import math
from collections.abc import Iterator
from typing import Protocol

from av.video.frame import VideoFrame

from serve_app.errors import ClipOverLimitError, InvalidRequestError
from serve_app.media.packets import VideoPacket
from serve_app.media.picture import Picture, upright_rgb
from serve_app.media.sampling import NUM_SAMPLED_FRAMES, DecordUnfitError, sampled_pictures
from serve_app.media.sharpness import sharpest
from serve_app.media.timeline import Timeline, shown_at, timeline_of
from serve_app.media.video import VideoDecoder, frame_at
from serve_app.settings import MediaSettings
from serve_app.types import FrameChoice

NAMED_CHOICES = ("first", "middle", "sharpest")


class FrameFinder(Protocol):
    """Takes the packets of the video and returns one picture, or None if nothing was decodable."""

    @property
    def done(self) -> bool: ...  # no more packets are wanted

    def feed(self, packet: VideoPacket) -> None: ...

    def finish(self) -> Picture | None: ...


def check_choice(choice: FrameChoice) -> None:
    if choice in NAMED_CHOICES:
        return
    if isinstance(choice, str) or not math.isfinite(choice) or choice < 0:
        raise InvalidRequestError(
            f"frame is {choice!r}; allowed are {', '.join(NAMED_CHOICES)} or a time in seconds"
        )


class FirstFrame:
    """Decodes packets as they come, until the first frame."""

    def __init__(self, decoder: VideoDecoder, settings: MediaSettings) -> None:
        self._decoder, self._settings = decoder, settings
        self._frame: VideoFrame | None = None
        self._num_packets = 0
        self._earliest: VideoPacket | None = None  # where the video starts

    @property
    def done(self) -> bool:
        return self._frame is not None

    def feed(self, packet: VideoPacket) -> None:
        self._num_packets += 1
        limit = self._settings.max_packets_before_frame
        if self._num_packets > limit:
            raise ClipOverLimitError(f"no picture in the first {limit} packets of video, the limit")
        if not packet.is_discard:
            self._earliest = min(self._earliest or packet, packet, key=shown_at)
        opening = self._num_packets == 1
        decode = self._decoder.decode_opening if opening else self._decoder.decode
        self._frame = next(iter(decode(packet)), None)

    def finish(self) -> Picture | None:
        frame = self._frame or next(iter(self._decoder.decode(None)), None)
        return None if frame is None else self._picture(frame)

    def _picture(self, frame: VideoFrame) -> Picture:
        """The frame with its time, which is not 0.0 where earlier packets are damaged."""
        start, time_s = self._earliest, 0.0
        if start is not None and frame.pts is not None:
            time_s = float((frame.pts - shown_at(start)) * start.time_base)
        return Picture(upright_rgb(frame, self._settings), time_s)


class ChosenFrame:
    """Keeps the compressed packets until all were read and the video's duration is known, then decodes."""

    done = False

    def __init__(
        self,
        choice: FrameChoice,
        decoder: VideoDecoder,
        data: bytes,
        settings: MediaSettings,
        image_size: int,
    ) -> None:
        self._choice, self._decoder, self._data = choice, decoder, data
        self._settings, self._image_size = settings, image_size
        self._packets: list[VideoPacket] = []

    def feed(self, packet: VideoPacket) -> None:
        self._packets.append(packet)

    def finish(self) -> Picture | None:
        timeline = timeline_of(self._packets)
        if timeline is None:
            return None
        if self._choice == "sharpest":
            return self._sharpest(timeline)
        target = timeline.tick(_chosen_time(self._choice, timeline.duration_s))
        frame = frame_at(target, self._decoder, self._packets)
        return None if frame is None else self._picture(frame, timeline)

    def _sharpest(self, timeline: Timeline) -> Picture | None:
        try:
            sampled = sampled_pictures(self._data, self._decoder.size, timeline)
            return sharpest(sampled, self._image_size)
        except DecordUnfitError:
            return sharpest(self._sampled(timeline), self._image_size)

    def _sampled(self, timeline: Timeline) -> Iterator[Picture]:
        """Uniformly spaced frames found by decoding all frames, for files that decord cannot read."""
        wanted = {timeline.ticks[index] for index in timeline.uniform(NUM_SAMPLED_FRAMES)}
        for frame in self._decoder.decode_all(self._packets):
            if frame.pts in wanted:
                yield self._picture(frame, timeline)

    def _picture(self, frame: VideoFrame, timeline: Timeline) -> Picture:
        time_s = 0.0 if frame.pts is None else timeline.seconds(frame.pts)
        return Picture(upright_rgb(frame, self._settings), time_s)


def _chosen_time(choice: FrameChoice, duration_s: float) -> float:
    if choice == "middle":
        return duration_s / 2
    assert not isinstance(choice, str), choice
    if choice > duration_s:
        raise InvalidRequestError(
            f"frame at {choice:.2f} s is beyond the video, which lasts {duration_s:.2f} s"
        )
    return choice
