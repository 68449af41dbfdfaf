"""Reads what a data set says about its clips: labels, transcripts, descriptions."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serve_app.emotions import DFEW_SEVEN, canonical
from serve_app.errors import InvalidRequestError

NAME_COLUMNS = ("name", "names", "video_name", "video", "clip")
LABEL_COLUMNS = ("label", "emotion_label", "emotion", "discrete", "annotation")
DESCRIPTION_COLUMNS = ("chi_reasons", "reason", "description")
SENTENCE_COLUMNS = ("sentence", "sentence_en", "transcription", "transcript", "text")
NUM_LIST_FIELDS = 3  # of a line `name frames label ...` in the original's lists


@dataclass(frozen=True, slots=True)
class Annotation:
    """One line of a data set's labels."""

    name: str
    label: str
    sentence: str | None = None


def read_labels(path: Path, allowed: Sequence[str] | None) -> list[Annotation]:
    """A CSV with a header, or the original's list: `name frames label ...`, separated by spaces.

    Labels by any of their usual names; numbers are DFEW's, 1 to 7.

    Raises:
        InvalidRequestError: the file cannot be read, lacks a column, names a clip twice, or a label is
            not among `allowed` (None: any).
    """
    if path.suffix.lower() == ".csv":
        rows = read_csv(path)
        name, label = _column(rows, NAME_COLUMNS, path), _column(rows, LABEL_COLUMNS, path)
        sentence = _find_column(rows, SENTENCE_COLUMNS)
        annotations = [
            Annotation(row[name], _label(row[label]), row[sentence] if sentence else None)
            for row in rows
        ]
    else:
        annotations = [_from_line(*each, path) for each in enumerate(_lines(path), 1)]
    _check(annotations, allowed, path)
    return annotations


def read_texts(path: Path, columns: Sequence[str]) -> dict[str, str]:
    """Name -> text of a CSV, from the first of these columns that it has. Raises InvalidRequestError."""
    rows = read_csv(path)
    name, text = _column(rows, NAME_COLUMNS, path), _column(rows, columns, path)
    return {row[name]: row[text] for row in rows}


def read_csv(path: Path) -> list[Mapping[str, str]]:
    """Rows by the names in the header, both without spaces around them. Raises InvalidRequestError."""
    lines = _lines(path)
    reader = csv.reader(lines, skipinitialspace=True)
    try:
        header, *rows = [[cell.strip() for cell in row] for row in reader if row]
    except ValueError as error:
        raise InvalidRequestError(f"{path} is empty; expected a header and rows") from error
    except csv.Error as error:
        raise InvalidRequestError(f"{path}: {error}") from error
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise InvalidRequestError(
                f"{path}, row {number} has {len(row)} cells; its header has {len(header)}"
            )
    if not rows:
        raise InvalidRequestError(f"{path} has a header and no rows")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{path}: {error}") from error
    return [line for line in text.splitlines(keepends=True) if line.strip()]


def _from_line(number: int, line: str, path: Path) -> Annotation:
    fields = line.split()
    if len(fields) < NUM_LIST_FIELDS:
        raise InvalidRequestError(
            f"{path}, line {number}: {line.strip()[:60]!r} is not `name frames label ...`"
        )
    return Annotation(fields[0], _label(fields[2]))


def _label(text: str) -> str:
    if text.isdecimal() and 1 <= int(text) <= len(DFEW_SEVEN):
        return DFEW_SEVEN[int(text) - 1]
    return canonical(text)


def _check(annotations: Iterable[Annotation], allowed: Sequence[str] | None, path: Path) -> None:
    seen: set[str] = set()
    for annotation in annotations:
        if annotation.name in seen:
            raise InvalidRequestError(f"{path} names {annotation.name!r} twice")
        seen.add(annotation.name)
        if allowed is not None and annotation.label not in allowed:
            raise InvalidRequestError(
                f"{path}: {annotation.name!r} has the label {annotation.label!r}; "
                f"allowed: {', '.join(allowed)}"
            )
    if not seen:
        raise InvalidRequestError(f"{path} names no clip")


def _column(rows: Sequence[Mapping[str, str]], names: Sequence[str], path: Path) -> str:
    found = _find_column(rows, names)
    if found is None:
        raise InvalidRequestError(
            f"{path} has the columns {', '.join(rows[0])}; expected one of {', '.join(names)}"
        )
    return found


def _find_column(rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in rows[0]), None)
