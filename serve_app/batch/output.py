"""Writes the final output: the records as JSON lines, or as a Parquet table."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from serve_app.batch.storage import Folder

TABLE_ROWS = 1024  # rows of one Parquet row group
SUFFIXES = (".jsonl", ".parquet")


def write_output(folder: Folder, name: str, lines: Iterator[bytes]) -> None:
    """Writes the whole file or nothing, in constant memory."""
    with folder.writing(name) as file:
        if PurePosixPath(name).suffix == ".parquet":
            _write_table(file, lines)
        else:
            for line in lines:
                file.write(line + b"\n")


def _write_table(file: Any, lines: Iterator[bytes]) -> None:
    import pyarrow
    from pyarrow import parquet

    schema = _schema()
    with parquet.ParquetWriter(file, schema) as writer:
        while some := list(islice(lines, TABLE_ROWS)):
            records = list(_flat(some))
            writer.write_table(pyarrow.Table.from_pylist(records, schema=schema))


def _flat(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Records as table rows: fields without a fixed schema stay JSON text."""
    for line in lines:
        record = json.loads(line)
        for name in ("voice", "provenance"):
            if record[name] is not None:
                record[name] = json.dumps(record[name], ensure_ascii=False)
        yield record


def _schema() -> Any:
    from pyarrow import field, float64, int64, list_, schema, string, struct

    text, number = string(), float64()
    timings = ("decode", "queue", "first_token", "total")
    counts = ("prompt_tokens", "completion_tokens", "cached_tokens")
    return schema(
        [
            field("id", text, nullable=False),
            field("text", text),
            field("finish_reason", text),
            field("label", text),
            field("probabilities", list_(struct({"label": text, "probability": number}))),
            field("label_mass", number),
            field("voice", text),
            field("usage", struct(dict.fromkeys(counts, int64()))),
            field("error", struct({"code": text, "message": text})),
            field("timings_ms", struct(dict.fromkeys(timings, number))),
            field("provenance", text),
        ]
    )
