"""The requests of `ask`: options and lines of JSON into bodies of POST /process_video."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from serve_app.cli.values import name_or_seconds
from serve_app.errors import InvalidRequestError
from serve_app.types import AudioMode, LayoutName, Parity, Tokenization

OPTIONS: dict[str, dict[str, Any]] = {
    "frame": {"help": "first, middle, sharpest or a time in s; default: first"},
    "voice": {"action": "store_true", "default": None, "help": "add statistics of the voice"},
    "temperature": {"type": float},
    "top_p": {"type": float},
    "top_k": {"type": int},
    "repetition_penalty": {"type": float, "help": "over the answer's tokens; 1 is none"},
    "max_tokens": {"type": int},
    "seed": {"type": int},
    "parity": {"choices": get_args(Parity), "help": "reference: as the original does it"},
    "layout": {"choices": get_args(LayoutName)},
    "tokenization": {"choices": get_args(Tokenization), "help": "of which transformers"},
    "audio_mode": {"choices": get_args(AudioMode), "help": "default: goes with --parity"},
    "features": {
        "metavar": "FILE.npz",
        "help": "ready features: face_feature, temporal_feature, audio_feature, each (width,); "
        "or all as video_features (3, width)",
    },
}
"""Of a request, by the name of its field; the values are for argparse."""


def read_lines(path: Path) -> list[str]:
    """Raises InvalidRequestError: the file cannot be read."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"--requests {path}: {error}") from error
    # Not splitlines: JSON may hold other ends of lines than this one.
    return [line for line in text.split("\n") if line.strip()]


def parse_line(line: str) -> dict[str, Any]:
    """Raises InvalidRequestError: no JSON object, or one that says something twice."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"not a line of JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidRequestError(f"a line holds an object, not {line[:40]!r}")
    named = {name.replace("-", "_"): value for name, value in fields.items()}
    if len(named) < len(fields):
        raise InvalidRequestError(f"a field is there twice, with - and with _: {sorted(fields)}")
    return named


def request_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What POST /process_video takes.

    Raises:
        InvalidRequestError: a field is unknown, missing or out of range, or the features cannot be read.
    """
    from serve_app.api.process_video import ProcessVideoRequest
    from serve_app.validation import validated

    unknown = fields.keys() - {"clip", "question", *OPTIONS}
    if unknown:
        raise InvalidRequestError(f"unknown fields {sorted(unknown)}")
    for name in ("clip", "question"):
        if not isinstance(fields.get(name), str):
            raise InvalidRequestError(f"{name} is missing, or is no text")
    body = {name: fields[name] for name in OPTIONS if fields.get(name) is not None}
    if "features" in body:
        body["features"] = _read_features(body["features"])
    body |= {
        "video_path": _absolute(fields["clip"]),
        "question": fields["question"],
        "frame": name_or_seconds(body.get("frame", "first")),
        "details": True,
    }
    validated(ProcessVideoRequest, body, strict=True)
    return body


def _absolute(clip: str) -> str:
    try:
        return str(Path(clip).resolve())
    except (ValueError, OSError, RuntimeError) as error:
        raise InvalidRequestError(f"clip {clip[:80]!r} is no path: {error}") from error


def _read_features(path: Any) -> dict[str, list[float]]:
    from serve_app.media.features import read_features

    if not isinstance(path, str):
        raise InvalidRequestError("features is no path of an npz file")
    return {name: values.tolist() for name, values in read_features(Path(path)).items()}
