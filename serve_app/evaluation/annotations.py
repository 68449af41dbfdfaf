"""Reads what a data set says about its clips: labels, transcripts, descriptions."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serve_app.emotions import DFEW_SEVEN, plain, same_label
from serve_app.errors import InvalidRequestError

NAME_COLUMNS = ("name", "names", "video_name", "video", "clip")
LABEL_COLUMNS = ("label", "emotion_label", "emotion", "discrete", "annotation")
DESCRIPTION_COLUMNS = ("chi_reasons", "reason", "description")
SENTENCE_COLUMNS = ("sentence", "sentence_en", "transcription", "transcript", "text")
NUM_LIST_FIELDS = 3  # at least, in a line `name frames label ...` of the original's lists


@dataclass(frozen=True, slots=True)
class Annotation:
    """One line of a data set's labels."""

    name: str
    label: str
    sentence: str | None = None


def read_labels(path: Path, allowed: Sequence[str] | None) -> list[Annotation]:
    """Reads a CSV with a header, or the original's list: `name frames label ...`, separated by spaces.

    Args:
        allowed: the label set. A label may be written as any of its usual names, and DFEW's also as its
            numbers 1 to 7. None accepts any label, as written.

    Raises:
        InvalidRequestError: the file cannot be read, lacks a column, names a clip twice, or has a label that
            is not in `allowed`.
    """
    if path.suffix.lower() == ".csv":
        rows = read_csv(path)
        name, label = _column(rows, NAME_COLUMNS, path), _column(rows, LABEL_COLUMNS, path)
        sentence = _find_column(rows, SENTENCE_COLUMNS)
        found = [
            Annotation(row[name].strip(), row[label], row[sentence] if sentence else None)
            for row in rows
        ]
    else:
        lines = (line for line in _read(path).split("\n") if line.strip())
        found = [_from_line(*each, path) for each in enumerate(lines, 1)]
    _check_names([annotation.name for annotation in found], path)
    return [replace(each, label=_label(each, allowed, path)) for each in found]


def read_texts(path: Path, columns: Sequence[str]) -> dict[str, str]:
    """Reads a CSV as name -> text; the text is from the first of these columns that it has.

    Raises:
        InvalidRequestError: the file cannot be read, lacks a column, or names a clip twice.
    """
    rows = read_csv(path)
    name, text = _column(rows, NAME_COLUMNS, path), _column(rows, columns, path)
    _check_names([row[name].strip() for row in rows], path)
    return {row[name].strip(): row[text] for row in rows}


def read_csv(path: Path) -> list[Mapping[str, str]]:
    """The rows of a CSV, as cells by column name.

    Raises:
        InvalidRequestError: the file cannot be read, is empty, or a row has too many or too few cells.
    """
    reader = csv.reader(io.StringIO(_read(path), newline=""), skipinitialspace=True)
    try:
        header, *rows = [row for row in reader if row]
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
    names = [name.strip() for name in header]
    return [dict(zip(names, row, strict=True)) for row in rows]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"{path}: {error}") from error


def _from_line(number: int, line: str, path: Path) -> Annotation:
    fields = line.split()
    if len(fields) < NUM_LIST_FIELDS:
        raise InvalidRequestError(
            f"{path}, line {number}: {line.strip()[:60]!r} is not `name frames label ...`"
        )
    return Annotation(fields[0], fields[2])


def _label(annotation: Annotation, allowed: Sequence[str] | None, path: Path) -> str:
    text = annotation.label
    if allowed == DFEW_SEVEN and text.strip().isdecimal() and 1 <= int(text) <= len(DFEW_SEVEN):
        return DFEW_SEVEN[int(text) - 1]
    label = plain(text) if allowed is None else same_label(text, allowed)
    if not label:
        among = "" if allowed is None else f"; allowed: {', '.join(allowed)}"
        raise InvalidRequestError(f"{path}: {annotation.name!r} has the label {text!r}{among}")
    return label


def _check_names(names: Iterable[str], path: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if not name:
            raise InvalidRequestError(f"{path} has a row without a name")
        if name in seen:
            raise InvalidRequestError(f"{path} has {name!r} twice")
        seen.add(name)
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
