"""Groups the rows of a manifest into units of work: rows about one clip together, within a bounded window."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from serve_app.batch.options import Defaults
from serve_app.batch.records import error_record
from serve_app.batch.requests import ParsedRow, read_row
from serve_app.batch.rows import Group, Record, Row, RowRequest, Unit
from serve_app.errors import RequestError
from serve_app.settings import MIB, AppSettings
from serve_app.types import DecodeOptions, without_source

WINDOW_ROWS = 4096  # rows about one clip are grouped if they are no farther apart
WINDOW_BYTES = 64 * MIB  # of clips that are inside the manifest, as data URLs
GROUP_ROWS = 64  # a clip with more rows is decoded again, so that units stay small
UNIT_ROWS = 32

Key = tuple[str, DecodeOptions, str | None]


@dataclass(slots=True)
class _Window:
    """Rows that are held back until more rows about the same clips have been read."""

    groups: dict[Key, list[ParsedRow]] = field(default_factory=dict)
    refused: list[Record] = field(default_factory=list)
    num_rows: int = 0
    num_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return self.num_rows >= WINDOW_ROWS or self.num_bytes >= WINDOW_BYTES


def make_units(rows: Iterable[Row], defaults: Defaults, settings: AppSettings) -> Iterator[Unit]:
    """Groups rows into units. Deterministic, because Ray Data may run it again from the beginning."""
    window = _Window()
    for row in rows:
        _put(window, row, defaults, settings)
        if window.is_full:
            yield from _units(window)
            window = _Window()
    yield from _units(window)


def _put(window: _Window, row: Row, defaults: Defaults, settings: AppSettings) -> None:
    window.num_rows += 1
    try:
        parsed = read_row(row, defaults, settings)
    except RequestError as error:
        window.refused.append(error_record(row.number, row.id, error, row.is_openai))
        return
    same_clip = window.groups.setdefault(_key(parsed), [])
    if not same_clip:
        window.num_bytes += len(parsed.source.data or b"")
    same_clip.append(parsed)


def _key(parsed: ParsedRow) -> Key:
    return parsed.source.key(), parsed.row_request.request.decode_options, parsed.features


def _units(window: _Window) -> Iterator[Unit]:
    groups: list[Group] = []
    for group in _groups(window):
        groups.append(group)
        num_rows = sum(len(each.row_requests) for each in groups)
        num_bytes = sum(len(each.source.data or b"") for each in groups)
        if num_rows >= UNIT_ROWS or num_bytes >= WINDOW_BYTES:
            yield Unit(tuple(groups), ())
            groups = []
    if groups or window.refused:
        yield Unit(tuple(groups), tuple(window.refused))


def _groups(window: _Window) -> Iterator[Group]:
    for same_clip in window.groups.values():
        for start in range(0, len(same_clip), GROUP_ROWS):
            some = same_clip[start : start + GROUP_ROWS]
            row_requests = tuple(_without_source(each.row_request) for each in some)
            yield Group(
                some[0].source,
                some[0].row_request.request.decode_options,
                some[0].features,
                row_requests,
            )


def _without_source(row_request: RowRequest) -> RowRequest:
    """Removes the clip from the request: the group has it, so that it is sent once."""
    return replace(row_request, request=without_source(row_request.request))
