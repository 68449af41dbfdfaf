"""Rows about one clip become one unit of work, in memory that does not grow with the manifest."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serve_app.batch.options import Defaults
from serve_app.batch.rows import Row, Unit
from serve_app.batch.units import GROUP_ROWS, UNIT_ROWS, WINDOW_ROWS, make_units
from serve_app.settings import AppSettings
from serve_app.types import NO_SOURCE

SETTINGS = AppSettings(model=Path("/model"))


def rows(videos: list[str], **fields: Any) -> Iterator[Row]:
    for number, video in enumerate(videos):
        yield Row(number, f"r{number}", "", {"video": video, "question": "What?", **fields})


def units_of(some: Iterator[Row]) -> list[Unit]:
    return list(make_units(some, Defaults(), SETTINGS))


def numbers(units: list[Unit]) -> list[int]:
    groups = [group for unit in units for group in unit.groups]
    numbers = [row_request.number for group in groups for row_request in group.row_requests]
    return numbers + [record.number for unit in units for record in unit.refused]


def test_rows_about_one_clip_are_one_group_wherever_they_stand() -> None:
    (unit,) = units_of(rows(["/a", "/b", "/a", "/c", "/a"]))
    assert [len(group.row_requests) for group in unit.groups] == [3, 1, 1]
    assert [group.source.path for group in unit.groups] == ["/a", "/b", "/c"]


def test_another_frame_or_other_features_are_another_group() -> None:
    some = [
        Row(0, "a", "", {"video": "/a", "question": "x"}),
        Row(1, "b", "", {"video": "/a", "question": "x", "frame": "middle"}),
        Row(2, "c", "", {"video": "/a", "question": "x", "features": "/f.npz"}),
    ]
    groups = [group for unit in units_of(iter(some)) for group in unit.groups]
    assert [len(group.row_requests) for group in groups] == [1, 1, 1]


def test_units_are_small_and_hold_every_row_once() -> None:
    units = units_of(rows([f"/{number % 50}" for number in range(1000)]))
    assert sorted(numbers(units)) == list(range(1000))
    # 20 rows about each clip: a unit ends with the group that makes it full.
    assert {sum(len(group.row_requests) for group in unit.groups) for unit in units} == {40}
    alone = units_of(rows([f"/{number}" for number in range(10 * UNIT_ROWS)]))
    assert {len(unit.groups) for unit in alone} == {UNIT_ROWS}


def test_a_clip_with_very_many_rows_is_more_than_one_group() -> None:
    units = units_of(rows(["/a"] * (2 * GROUP_ROWS + 1)))
    sizes = [len(group.row_requests) for unit in units for group in unit.groups]
    assert sizes == [GROUP_ROWS, GROUP_ROWS, 1]


def test_no_more_rows_are_read_ahead_than_the_window() -> None:
    num_read = 0

    def endless() -> Iterator[Row]:
        nonlocal num_read
        while True:
            yield Row(num_read, "x", "", {"video": f"/{num_read}", "question": "x"})
            num_read += 1

    units = make_units(endless(), Defaults(), SETTINGS)
    next(units)
    assert num_read <= WINDOW_ROWS


def test_clips_in_the_manifest_itself_bound_the_window_by_their_bytes() -> None:
    data = base64.b64encode(b"x" * (24 << 20)).decode()
    content: list[dict[str, Any]] = [{"type": "text", "text": "What?"}, {"type": "video_url"}]

    def lines() -> Iterator[Row]:
        for number in range(6):
            content[1]["video_url"] = {"url": f"data:video/mp4;base64,{number:04d}{data}"}
            body = {"model": "emotion-llama", "messages": [{"role": "user", "content": content}]}
            fields = {"url": "/v1/chat/completions", "body": json.loads(json.dumps(body))}
            yield Row(number, "x", "", fields, is_openai=True)

    assert [len(unit.groups) for unit in make_units(lines(), Defaults(), SETTINGS)] == [3, 3]


def openai_rows(urls: list[str]) -> Iterator[Row]:
    for number, url in enumerate(urls):
        clip = {"type": "video_url", "video_url": {"url": url}}
        content = [{"type": "text", "text": "What?"}, clip]
        body = {"model": "emotion-llama", "messages": [{"role": "user", "content": content}]}
        fields = {"url": "/v1/chat/completions", "body": body}
        yield Row(number, f"r{number}", "", fields, is_openai=True)


def test_the_same_clip_in_two_lines_is_one_group() -> None:
    (unit,) = units_of(openai_rows(["data:video/mp4;base64,AAAA"] * 2))
    assert [len(group.row_requests) for group in unit.groups] == [2]
    requests = [row_request.request for row_request in unit.groups[0].row_requests]
    assert all(request.source == NO_SOURCE for request in requests), "it travels once"


def test_each_url_is_a_clip_of_its_own() -> None:
    one, other = "https://clips.example/1.mp4", "https://clips.example/2.mp4"
    (unit,) = units_of(openai_rows([one, other, one]))
    sizes = {group.source.url: len(group.row_requests) for group in unit.groups}
    assert sizes == {one: 2, other: 1}


def test_rows_that_cannot_be_asked_come_back_as_errors() -> None:
    some = [Row(0, "a", "line 1", {"video": "/a"}), Row(1, "b", "line 2", {}, "line 2: torn")]
    (unit,) = units_of(iter(some))
    assert unit.groups == ()
    lines = [json.loads(record.line) for record in unit.refused]
    assert [line["id"] for line in lines] == ["a", "b"]
    assert lines[1]["error"] == {"code": "invalid_request", "message": "line 2: torn"}


def test_the_same_rows_give_the_same_units() -> None:
    """Ray Data may read the rows twice and expects the same units."""
    videos = [f"/{number * number % 37}" for number in range(300)]
    first, second = (
        [
            [row_request.number for group in unit.groups for row_request in group.row_requests]
            for unit in units_of(rows(videos))
        ]
        for _ in range(2)
    )
    assert first == second


def test_an_openai_line_that_cannot_be_asked_comes_back_in_openais_form() -> None:
    torn = Row(0, "0", "line 1", {}, "line 1: not a line of JSON", is_openai=True)
    (unit,) = units_of(iter([torn]))
    line = json.loads(unit.refused[0].line)
    assert line["custom_id"] == "0"
    assert line["response"]["status_code"] == 400
    assert line["response"]["body"]["error"]["code"] == "invalid_request"
