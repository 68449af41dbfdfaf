"""A row of a manifest, and the forms it takes between the stages until it is a record of the output."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.types import AnswerRequest, Clip, ClipSource, DecodeOptions, ScoreRequest


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it stands in the manifest."""

    number: int  # its position, from 0: what parts and records know it by
    id: str  # the user's name for it
    place: str  # where to find it, such as "line 17"
    fields: Mapping[str, Any]
    problem: str = ""  # what is wrong with it: such a row gets this as its error
    is_openai: bool = False  # a line of OpenAI's batch input


@dataclass(frozen=True, slots=True)
class RowRequest:
    """What the engine gets for one row."""

    number: int
    id: str
    request: AnswerRequest | ScoreRequest  # in a group its source is removed: the group has it
    chat_model: str | None = None  # the model name in an OpenAI line; None for other rows


@dataclass(frozen=True, slots=True)
class Group:
    """Rows about the same clip, which is decoded once for all of them."""

    source: ClipSource
    decode_options: DecodeOptions
    features: str | None  # npz file with ready features of the clip
    row_requests: tuple[RowRequest, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """The result of a row: its line of the output, and the figures that the driver counts."""

    number: int
    line: bytes  # JSON, see records.py; without a newline
    error_code: str = ""
    num_output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Unit:
    """The input of one decode task: some groups, and records of rows that were refused before."""

    groups: tuple[Group, ...]
    refused: tuple[Record, ...]


BusyTimes = Mapping[str, tuple[float, float]]
"""Busy and elapsed seconds by what is measured and where, such as "engine HOST PID"; see busy.py."""


@dataclass(frozen=True, slots=True)
class DecodedUnit:
    """The input of one engine task: clips with their rows, and records of rows that need no engine."""

    clips: tuple[tuple[Clip, tuple[RowRequest, ...]], ...]
    done: tuple[Record, ...]
    busy: BusyTimes
