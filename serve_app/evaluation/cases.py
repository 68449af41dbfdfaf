"""A case (one question about one clip) and its outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from serve_app.errors import InvalidRequestError
from serve_app.types import FEATURE_NAMES


@dataclass(frozen=True, slots=True)
class Case:
    """One question about one clip. Ids must be unique within an evaluation."""

    id: str
    clip: Path
    question: str
    truth: str = ""  # the right label, or the reference description
    features: tuple[Path, ...] = ()  # .npy files in the order of FEATURE_NAMES
    fields: Mapping[str, Any] = field(default_factory=dict)  # more of POST /process_video's body
    labels: tuple[str, ...] = ()  # labels whose probabilities are requested too

    def body(self) -> dict[str, Any]:
        """The body of POST /process_video.

        Raises:
            InvalidRequestError: a feature file cannot be read.
        """
        body = {"video_path": str(self.clip.resolve()), "question": self.question, **self.fields}
        if self.features:
            body["features"] = dict(
                zip(FEATURE_NAMES, map(_read_feature, self.features), strict=True)
            )
        return body


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a case: an answer, or an error with its stable code."""

    case: Case
    text: str = ""
    probabilities: Mapping[str, float] | None = None
    label_mass: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    error_code: str = ""
    error: str = ""

    @property
    def is_answered(self) -> bool:
        return not self.error_code


def _read_feature(path: Path) -> list[float]:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InvalidRequestError(f"feature {path}: {error}") from error
    if not isinstance(values, np.ndarray):
        raise InvalidRequestError(f"feature {path} is an archive; expected one array (width,)")
    if values.ndim != 1 or not values.size or values.dtype.kind not in "fiu":
        raise InvalidRequestError(
            f"feature {path} is {values.dtype} of shape {values.shape}; expected (width,) of numbers"
        )
    if not np.isfinite(values).all():
        raise InvalidRequestError(f"feature {path} has values that are not finite")
    numbers: list[float] = values.astype(np.float64).tolist()
    return numbers
