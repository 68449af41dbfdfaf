"""Every kind of input is read as rows, and errors name the place of the row."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import fs, parquet

from serve_app.batch.manifest import open_manifest, survey
from serve_app.batch.rows import Row
from serve_app.errors import InvalidRequestError

TABLE = [
    {"id": "a", "video": "/clips/1.mp4", "question": "[emotion] What, exactly?"},
    {"id": "b", "video": "near.mp4", "question": "Pourquoi ?\nWhy?", "transcript": "Ça va"},
    {"id": "c", "video": "s3://bucket/3.mp4", "task": "reason"},
]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    names = dict.fromkeys(key for row in rows for key in row)
    parquet.write_table(
        pyarrow.table({name: [row.get(name) for row in rows] for name in names}), path
    )


WRITERS = {".csv": write_csv, ".jsonl": write_jsonl, ".parquet": write_parquet}


def read(path: object) -> list[Row]:
    return list(open_manifest(str(path)).rows())


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_kind_of_table_gives_the_same_rows(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"table{suffix}"
    WRITERS[suffix](path, TABLE)
    rows = read(path)
    assert [row.id for row in rows] == ["a", "b", "c"]
    assert [row.number for row in rows] == [0, 1, 2]
    assert not any(row.problem for row in rows)
    assert rows[0].fields == {"video": "/clips/1.mp4", "question": "[emotion] What, exactly?"}
    assert rows[1].fields == {
        "video": str(tmp_path / "near.mp4"),
        "question": "Pourquoi ?\nWhy?",
        "transcript": "Ça va",
    }
    assert rows[2].fields == {"video": "s3://bucket/3.mp4", "task": "reason"}
    assert survey(open_manifest(str(path))).num_rows == 3


@pytest.mark.parametrize("suffix", WRITERS)
def test_rows_without_an_id_go_by_their_number(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"table{suffix}"
    WRITERS[suffix](path, [{"video": "/1.mp4"}, {"video": "/2.mp4"}])
    assert [row.id for row in read(path)] == ["0", "1"]


def test_a_folder_gives_its_clips_by_name_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b/2.MP4", "a.wav", "b/1.mkv", "labels.csv", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = read(tmp_path)
    assert [row.id for row in rows] == ["a.wav", "b/1.mkv", "b/2.MP4"]
    assert rows[1].fields == {"video": str(tmp_path / "b/1.mkv")}


def test_a_glob_gives_what_matches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x/1.mp4", "y/2.mp4", "y/3.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    rows = read("*/[12].mp4")
    assert [row.id for row in rows] == ["x/1.mp4", "y/2.mp4"]
    assert rows[0].fields["video"] == str(tmp_path / "x/1.mp4")
    assert [row.id for row in read("y/*")] == ["2.mp4", "3.avi"]


def test_a_store_behind_a_uri_is_read_like_a_disk() -> None:
    store, _ = fs.FileSystem.from_uri("fsspec+memory://")
    store.create_dir("manifests/clips")
    for name, data in {"m.jsonl": b'{"video": "clips/1.mp4"}\n', "clips/1.mp4": b"x"}.items():
        with store.open_output_stream(f"manifests/{name}") as file:
            file.write(data)
    (row,) = read("fsspec+memory://manifests/m.jsonl")
    assert row.fields == {"video": "fsspec+memory://manifests/clips/1.mp4"}
    (clip,) = read("fsspec+memory://manifests/clips")
    assert (clip.id, clip.fields["video"]) == ("1.mp4", "fsspec+memory://manifests/clips/1.mp4")


def test_openai_lines_keep_their_body_and_their_id(tmp_path: Path) -> None:
    line = {"custom_id": "q-1", "method": "POST", "url": "/v1/chat/completions", "body": {"n": 1}}
    write_jsonl(tmp_path / "batch.jsonl", [line, {"custom_id": "q-2", "priority": 1}])
    manifest = open_manifest(str(tmp_path / "batch.jsonl"))
    rows = list(manifest.rows())
    assert manifest.kind == "openai"
    assert [row.id for row in rows] == ["q-1", "q-2"]
    assert rows[0].fields["body"] == {"n": 1}
    assert "unknown fields priority" in rows[1].problem


def test_a_bad_line_is_a_bad_row_and_the_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    path.write_bytes(
        b'{"video": "/1.mp4"}\n{"video": \n[1]\n\n{"video": "/2.mp4", "vidoe": 1}\n\xff\n'
    )
    problems = [row.problem for row in read(path)]
    assert problems[0] == ""
    assert "line 2: not a line of JSON" in problems[1]
    assert problems[2] == "line 3: not a JSON object"
    assert "line 5: unknown fields vidoe; known are id, video" in problems[3]
    assert "line 6" in problems[4]


def test_a_csv_line_of_another_length_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("id,video\na,/1.mp4\nb,/2.mp4,more\nc,/3.mp4\n")
    rows = read(path)
    assert [row.problem for row in rows] == ["", "line 3: 3 cells; the header has 2", ""]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"video": "/1.mp4", "vidoe": "x"}], r"unknown columns vidoe; known are id, video, "),
        ([{"id": "a", "question": "x"}], "no column video among id, question"),
    ],
    ids=["unknown column", "no video"],
)
def test_a_header_that_does_not_fit_is_refused(
    suffix: str, rows: list[dict[str, Any]], message: str, tmp_path: Path
) -> None:
    path = tmp_path / f"table{suffix}"
    WRITERS[suffix](path, rows)
    with pytest.raises(InvalidRequestError, match=message):
        read(path)


def test_two_rows_of_one_id_are_named(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    write_jsonl(path, [{"id": name, "video": "/1.mp4"} for name in ("a", "b", "c", "b")])
    with pytest.raises(InvalidRequestError, match="line 2 and line 4 have the same id 'b'"):
        survey(open_manifest(str(path)))


def test_another_manifest_has_another_hash(tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    write_jsonl(path, TABLE)
    before = survey(open_manifest(str(path))).sha256
    assert survey(open_manifest(str(path))).sha256 == before
    write_jsonl(path, [*TABLE[:2], {**TABLE[2], "task": "emotion"}])
    assert survey(open_manifest(str(path))).sha256 != before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "does not exist"),
        ("table.tsv", b"video\n", r"ends in .csv, .jsonl, .ndjson, .parquet"),
        ("table.jsonl", b"\n", "holds no rows"),
        ("table.parquet", b"PAR0", "table.parquet, row 1"),
        ("table.csv", b'video\n"a\n', "table.csv, line 2"),
        ("other.csv", b"video\n\xff\n", "other.csv, line"),
    ],
)
def test_an_input_that_cannot_be_used_is_named(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequestError, match=message):
        survey(open_manifest(str(tmp_path / name)))
