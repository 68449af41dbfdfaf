"""Readers for CSV, JSONL and Parquet tables: they stream lines as fields."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serve_app.errors import InvalidRequestError

COLUMNS = ("id", "video", "question", "task", "transcript", "labels", "frame", "features")
OPENAI_KEYS = ("custom_id", "method", "url", "body")
PARQUET_ROWS = 1024  # rows in memory at a time


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table: its non-empty fields, or the problem with it."""

    place: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def read_csv(file: Any, name: str) -> Iterator[Line]:
    """Reads a CSV with a header.

    Raises:
        InvalidRequestError: the header has an unknown column or no `video`, or the file is not CSV.
    """
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    header: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                _check_columns(header, name)
                continue
            place = f"line {reader.line_num}"
            if len(cells) != len(header):
                problem = f"{len(cells)} cells; the header has {len(header)}"
                yield Line(place, problem=problem)
                continue
            yield Line(place, {key: cell for key, cell in zip(header, cells, strict=True) if cell})
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{name}, line {reader.line_num}: {error}") from error


def read_parquet(file: Any, name: str) -> Iterator[Line]:
    """Reads a Parquet table.

    Raises:
        InvalidRequestError: it has an unknown column or no `video`, or the file is not Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        table = parquet.ParquetFile(file)
        _check_columns(table.schema_arrow.names, name)
        for batch in table.iter_batches(batch_size=PARQUET_ROWS):
            for fields in batch.to_pylist():
                number += 1
                present = {key: value for key, value in fields.items() if value not in (None, "")}
                yield Line(f"row {number}", present)
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidRequestError(f"{name}, row {number + 1}: {error}") from error


def read_jsonl(file: Any, columns: Sequence[str] = COLUMNS) -> Iterator[Line]:
    """Reads JSON lines. One that is not an object, or has an unknown field, has a `problem`."""
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _parse(f"line {number}", line, columns)


def is_openai(file: Any) -> bool:
    """Whether a JSONL file is OpenAI's batch input, judged by its first non-empty line."""
    first = next(filter(bytes.strip, file), b"{}")
    try:
        fields = json.loads(first.decode("utf-8-sig"))
    except ValueError:
        return False
    return isinstance(fields, dict) and "custom_id" in fields


def _parse(place: str, line: bytes, columns: Sequence[str]) -> Line:
    try:
        fields = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return Line(place, problem=f"not a line of JSON: {error}")
    if not isinstance(fields, dict):
        return Line(place, problem="not a JSON object")
    unknown = sorted(fields.keys() - set(columns))
    if unknown:
        known = ", ".join(columns)
        return Line(place, fields, f"unknown fields {', '.join(unknown)}; known are {known}")
    return Line(place, {key: value for key, value in fields.items() if value not in (None, "")})


def _check_columns(header: Sequence[str], name: str) -> None:
    known = ", ".join(COLUMNS)
    unknown = [column for column in header if column not in COLUMNS]
    if unknown:
        raise InvalidRequestError(
            f"{name}: unknown columns {', '.join(unknown)}; known are {known}"
        )
    if len(set(header)) < len(header):
        raise InvalidRequestError(f"{name}: a column occurs twice: {', '.join(header)}")
    if "video" not in header:
        raise InvalidRequestError(f"{name}: there is no column video among {', '.join(header)}")
