"""Parts: written in pieces of known size, each row at most once, merged in the order of the manifest."""

import json
import random
from pathlib import Path

import pytest

from serve_app.batch.parts import PART_ROWS, PartWriter, merged_lines
from serve_app.batch.rows import Record
from serve_app.batch.storage import TEMPORARY, Folder


def record(number: int, answer: str = "", error_code: str = "") -> Record:
    line = json.dumps({"id": f"r{number}", "text": answer or f"answer {number}"}).encode()
    return Record(number, line, error_code, num_output_tokens=2)


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    memory = f"fsspec+memory://{tmp_path.name}.parts"
    folder = Folder(str(tmp_path / "out.parts") if request.param == "disk" else memory)
    folder.create()
    return folder


def merged(folder: Folder, num_rows: int) -> list[str]:
    lines = merged_lines(folder, PartWriter(folder, num_rows).parts)
    return [json.loads(line)["id"] for line in lines]


def test_256_records_are_a_part_at_once(folder: Folder) -> None:
    writer = PartWriter(folder, 1000)
    writer.add(record(number) for number in range(PART_ROWS - 1))
    assert folder.names() == []
    writer.add([record(PART_ROWS - 1)])
    assert len(folder.names()) == 1
    assert PartWriter(folder, 1000).num_done == PART_ROWS


def test_fewer_become_one_when_they_are_old(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("serve_app.batch.parts.time.monotonic", lambda: now)
    writer = PartWriter(folder, 10)
    writer.flush(60)
    writer.add([record(1)])
    now = 130.0
    writer.add([record(2)])
    writer.flush(60)
    assert folder.names() == []
    now = 160.0
    writer.flush(60)
    assert PartWriter(folder, 10).num_done == 2


def test_a_row_that_is_done_is_not_taken_again(folder: Folder) -> None:
    writer = PartWriter(folder, 3)
    writer.add([record(0, "first"), record(0, "second")])
    writer.flush()
    again = PartWriter(folder, 3)
    again.add([record(0, "third"), record(2)])
    again.flush()
    assert (again.num_done, bytes(again.done)) == (2, b"\x01\x00\x01")
    lines = [json.loads(line) for line in merged_lines(folder, again.parts)]
    assert lines == [{"id": "r0", "text": "first"}, {"id": "r2", "text": "answer 2"}]


def test_two_writers_at_once_still_leave_each_row_once(folder: Folder) -> None:
    """A driver that was thought dead may still be writing."""
    for writer in [PartWriter(folder, 400), PartWriter(folder, 400)]:
        writer.add(record(number, error_code="x" * (number < 9)) for number in range(400))
        writer.flush()
    assert PartWriter(folder, 400).errors == {"x": 9}
    assert merged(folder, 400) == [f"r{number}" for number in range(400)]


def test_the_output_is_in_the_order_of_the_manifest(folder: Folder) -> None:
    numbers = list(range(2000))
    random.Random(3).shuffle(numbers)
    writer = PartWriter(folder, len(numbers))
    for start in range(0, len(numbers), 16):
        writer.add(record(number) for number in numbers[start : start + 16])
    writer.flush()
    assert len(folder.names()) == 8
    assert merged(folder, len(numbers)) == [f"r{number}" for number in range(2000)]


def test_parts_that_follow_each_other_are_not_all_open_at_once(folder: Folder) -> None:
    writer = PartWriter(folder, 10 * PART_ROWS)
    writer.add(record(number) for number in range(10 * PART_ROWS))
    opened: list[str] = []
    read = folder.read
    folder.read = lambda name: opened.append(name) or read(name)  # type: ignore[method-assign, func-returns-value]
    lines = merged_lines(folder, writer.parts)
    next(lines)
    assert len(opened) == 1
    assert len(list(lines)) == 10 * PART_ROWS - 1


def test_counts_of_errors_and_tokens_are_taken_up(folder: Folder) -> None:
    writer = PartWriter(folder, 5)
    writer.add([record(0), record(1, error_code="clip_not_found"), record(2)])
    writer.flush()
    again = PartWriter(folder, 5)
    assert (again.errors, again.num_output_tokens) == ({"clip_not_found": 1}, 6)


def test_a_part_that_was_not_finished_does_not_count(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    (tmp_path / f"part-x-000000.jsonl{TEMPORARY}").write_text('{"numbers": [0')
    assert PartWriter(folder, 1).num_done == 0


def test_a_file_that_fails_while_it_is_written_gets_no_name(folder: Folder) -> None:
    with pytest.raises(ZeroDivisionError), folder.writing("part-x-000000.jsonl") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert folder.names() == []
