"""The options of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app.settings import AppSettings


@dataclass(frozen=True, slots=True)
class Defaults:
    """Values for rows that do not have their own."""

    question: str | None = None
    task: str | None = None
    labels: tuple[str, ...] | None = None
    features: str | None = None  # folder with STEM.npz for each clip
    options: Mapping[str, Any] = field(default_factory=dict)  # fields of POST /process_video's body


@dataclass(frozen=True, slots=True)
class Job:
    """One batch: input, output, and how to run it."""

    input: str
    output: str
    settings: AppSettings
    defaults: Defaults = Defaults()
    resume: bool = False
    max_error_rate: float = 1.0
    concurrency: int | None = None  # rows in one engine at a time; None: from max_num_seqs
    num_engines: int | None = None  # None: one for each GPU of the cluster, or one
    num_decoders: int | None = None  # None: as many as engines
    address: str | None = None  # a running Ray cluster; None: start Ray on this machine
