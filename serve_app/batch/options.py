"""What a batch is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app.settings import AppSettings


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the job says for rows that do not say it themselves."""

    question: str | None = None
    task: str | None = None
    labels: tuple[str, ...] | None = None
    features: str | None = None  # folder of STEM.npz, one for each clip
    options: Mapping[str, Any] = field(default_factory=dict)  # of POST /process_video's body


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked for."""

    input: str
    output: str
    settings: AppSettings
    defaults: Defaults = Defaults()
    resume: bool = False
    max_error_rate: float = 1.0
    concurrency: int | None = None  # rows in one engine at a time; None: by what it can batch
    num_engines: int | None = None  # None: one for each GPU of the cluster, or one
    num_decoders: int | None = None  # None: as many as engines
    address: str | None = None  # of a running Ray cluster
