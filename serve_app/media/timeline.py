"""When the frames of a video are shown, computed from its packets instead of its header."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from serve_app.media.packets import VideoPacket


@dataclass(frozen=True, slots=True)
class Timeline:
    """Times of the shown frames, in order, in ticks of `time_base` seconds."""

    ticks: list[int]
    last_duration: int  # ticks for which the last frame is shown
    time_base: Fraction
    num_hidden: int  # frames before the first shown one, cut off by an edit list
    num_packets: int

    @property
    def duration_s(self) -> float:
        return self.seconds(self.ticks[-1] + self.last_duration)

    def seconds(self, tick: int) -> float:
        """Seconds from the start of the video to a tick."""
        return float((tick - self.ticks[0]) * self.time_base)

    def tick(self, time_s: float) -> int:
        """The first tick at or after `time_s`, with a tolerance for float rounding."""
        return self.ticks[0] + math.ceil(time_s / self.time_base - 1e-6)

    def uniform(self, num_frames: int) -> list[int]:
        """Up to `num_frames` evenly spaced indices into `ticks`, the first and last included."""
        positions = np.linspace(0, len(self.ticks) - 1, num_frames)
        return sorted({round(position) for position in positions.tolist()})


def timeline_of(packets: Sequence[VideoPacket]) -> Timeline | None:
    """The timeline of these packets; None where none of them is shown."""
    shown = sorted((p for p in packets if not p.is_discard), key=shown_at)
    if not shown:
        return None
    ticks = [shown_at(packet) for packet in shown]
    num_hidden = sum(shown_at(packet) < ticks[0] for packet in packets)
    return Timeline(ticks, shown[-1].duration or 0, shown[-1].time_base, num_hidden, len(packets))


def shown_at(packet: VideoPacket) -> int:
    """Tick at which a packet is shown. AVI has no pts; its dts are in order of showing."""
    return next((tick for tick in (packet.pts, packet.dts) if tick is not None), 0)


def shown_until_s(packet: VideoPacket) -> float:
    """End of a packet's showing, in seconds on the container's clock."""
    return float((shown_at(packet) + (packet.duration or 0)) * packet.time_base)
