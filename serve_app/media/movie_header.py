"""Duration in the movie header of an mp4 or mov, which newer versions of libav do not report."""

import struct
from collections.abc import Iterator

from serve_app.media.container import MICROSECONDS

UNKNOWN = (0, 2**32 - 1, 2**64 - 1)  # durations that mean there is none


def movie_duration_us(data: bytes) -> int | None:
    """The duration as FFmpeg up to version 5 reads it. Newer versions use the tracks' durations instead.

    None where the header has none, or, in a fragmented file, covers only the first part.
    """
    moov = next((bounds for name, *bounds in _boxes(data, 0, len(data)) if name == b"moov"), None)
    if moov is None:
        return None
    inside = {name: (start, end) for name, start, end in _boxes(data, *moov)}
    if b"mvhd" not in inside or b"mvex" in inside:
        return None
    start, end = inside[b"mvhd"]
    return _duration_us(data[start:end])


def _duration_us(header: bytes) -> int | None:
    """Duration in an mvhd box: version and flags, two dates, ticks per second, ticks (wider in version 1)."""
    dates_and_ticks = ">20xIQ" if header[:1] == b"\1" else ">12xII"
    if len(header) < struct.calcsize(dates_and_ticks):
        return None
    per_s, ticks = struct.unpack_from(dates_and_ticks, header)
    if ticks in UNKNOWN or not per_s:
        return None
    duration_us: int = (ticks * MICROSECONDS + per_s // 2) // per_s
    return duration_us


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each box's content, up to the first invalid box."""
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1 and content + 8 <= end:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        box_end = end if size == 0 else start + size
        if not content <= box_end <= end:
            return
        yield name, content, box_end
        start = box_end
