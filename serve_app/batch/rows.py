"""A row of a manifest, and what the stages make of it on its way to a record of the output."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.types import AnswerRequest, Clip, ClipSource, DecodeOptions, ScoreRequest


@dataclass(frozen=True, slots=True)
class Row:
    """A row as the manifest has it."""

    number: int  # its place, from 0: what names it in everything durable
    id: str  # the user's name for it
    place: str  # where to find it, such as "line 17"
    fields: Mapping[str, Any]
    problem: str = ""  # why there are no fields: such a row is answered with this error
    is_openai: bool = False  # a line of OpenAI's batch input


@dataclass(frozen=True, slots=True)
class RowRequest:
    """A row as the engine takes it."""

    number: int
    id: str
    request: AnswerRequest | ScoreRequest  # in a group without its source, which is the group's
    chat_model: str | None = None  # of an OpenAI line: what it calls the model


@dataclass(frozen=True, slots=True)
class Group:
    """Rows about one clip: decoded once."""

    source: ClipSource
    decode_options: DecodeOptions
    features: str | None  # npz file with ready features of the clip
    row_requests: tuple[RowRequest, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a row: a line of the output, and what the driver wants to know of it."""

    number: int
    line: bytes  # JSON, see records.py; without the end of the line
    error_code: str = ""
    num_output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Unit:
    """What one decode task takes: some groups, and the rows that were refused on the way to them."""

    groups: tuple[Group, ...]
    refused: tuple[Record, ...]


BusyTimes = Mapping[str, tuple[float, float]]
"""By what is measured and where: busy and elapsed seconds since its process began."""


@dataclass(frozen=True, slots=True)
class DecodedUnit:
    """What one engine task takes: clips with their rows, and the rows that are done already."""

    clips: tuple[tuple[Clip, tuple[RowRequest, ...]], ...]
    done: tuple[Record, ...]
    busy: BusyTimes
