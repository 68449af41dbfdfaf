"""Makes the requests of `ask`: turns options and lines of JSON into bodies of POST /process_video."""

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
    "repetition_penalty": {"type": float, "help": "over the answer's tokens; 1 turns it off"},
    "max_tokens": {"type": int},
    "seed": {"type": int},
    "parity": {"choices": get_args(Parity), "help": "reference: do it as the original does"},
    "layout": {"choices": get_args(LayoutName)},
    "tokenization": {
        "choices": get_args(Tokenization),
        "help": "that of which transformers version",
    },
    "audio_mode": {"choices": get_args(AudioMode), "help": "default: depends on --parity"},
    "features": {
        "metavar": "FILE.npz",
        "help": "ready features: face_feature, temporal_feature, audio_feature, each (width,); "
        "or all as video_features (3, width)",
    },
}
"""Options of a request, by the name of the body's field; the values are arguments of add_argument."""


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a file.

    Raises:
        InvalidRequestError: the file cannot be read.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"--requests {path}: {error}") from error
    # Not splitlines(): it also splits at characters that JSON strings may hold, such as U+2028.
    return [line for line in text.split("\n") if line.strip()]


def parse_line(line: str) -> dict[str, Any]:
    """The fields of a line, with _ in their names in place of -.

    Raises:
        InvalidRequestError: it is not a JSON object, or names a field twice.
    """
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"not a line of JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidRequestError(f"a line must hold a JSON object, not {line[:40]!r}")
    named = {name.replace("-", "_"): value for name, value in fields.items()}
    if len(named) < len(fields):
        raise InvalidRequestError(f"a field occurs twice, with - and with _: {sorted(fields)}")
    return named


def request_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The body of POST /process_video for these fields.

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
            raise InvalidRequestError(f"{name} is missing or not a string")
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
        raise InvalidRequestError(f"clip {clip[:80]!r} is not a path: {error}") from error


def _read_features(path: Any) -> dict[str, list[float]]:
    from serve_app.media.features import read_features

    if not isinstance(path, str):
        raise InvalidRequestError("features is not the path of an npz file")
    return {name: values.tolist() for name, values in read_features(Path(path)).items()}
