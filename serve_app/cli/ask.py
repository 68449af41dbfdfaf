"""emotion-llama ask: one question about one clip, to a server or to an engine in this process."""

import argparse
import asyncio
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_app.errors import (
    InvalidRequestError,
    NotReadyError,
    ServeAppError,
    error_by_code,
)

if TYPE_CHECKING:
    import httpx

    from serve_app.api.legacy import ProcessVideoRequest
    from serve_app.types import Answer

DEFAULT_URL = "http://127.0.0.1:7887"


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("ask", help="ask one question about one clip")
    parser.add_argument("clip", type=Path)
    parser.add_argument("question")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", default=DEFAULT_URL, help="of a server; default: %(default)s")
    where.add_argument("--model", type=Path, help="run this checkpoint here, without a server")
    parser.add_argument("--frame", default="first", help="first, middle, sharpest or a time in s")
    parser.add_argument("--voice", action="store_true", help="add statistics of the voice")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--json", action="store_true", help="print one object with all details")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    request = {
        "video_path": str(args.clip.resolve()),
        "question": args.question,
        "frame": _name_or_seconds(args.frame),
        "voice": args.voice,
        "temperature": args.temperature,
        "max_tokens": args.max_tokens,
        "seed": args.seed,
        "details": True,
    }
    request = {key: value for key, value in request.items() if value is not None}
    details = _ask_engine(args.model, request) if args.model else _ask_server(args.url, request)
    print(json.dumps(details, ensure_ascii=False) if args.json else details["text"])
    return 0


def _name_or_seconds(text: str) -> str | float:
    try:
        seconds = float(text)
    except ValueError:
        return text
    return seconds if math.isfinite(seconds) else text  # JSON has no NaN; as a name it is refused


def _ask_server(url: str, request: dict[str, Any]) -> dict[str, Any]:
    import httpx

    try:
        response = httpx.post(f"{url}/process_video", json=request, timeout=None)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise NotReadyError(f"no server answers at {url}: {error}") from error
    if not response.is_success:
        raise _remote_error(response)
    details: dict[str, Any] = response.json()["details"]
    return details


def _remote_error(response: "httpx.Response") -> ServeAppError:
    """The server's error as the same class here. What is not in our form came from a proxy."""
    kind = error_by_code(response.headers.get("X-Error-Code"))
    try:
        return kind(response.json()["details"])
    except (ValueError, KeyError, TypeError):
        return ServeAppError(f"status {response.status_code}: {response.text[:200]}")


def _ask_engine(model: Path, request: dict[str, Any]) -> dict[str, Any]:
    from pydantic import ValidationError

    from serve_app.api.legacy import ProcessVideoRequest

    try:
        checked = ProcessVideoRequest.model_validate(request)
    except ValidationError as error:
        raise InvalidRequestError(str(error)) from error
    return asdict(asyncio.run(_answer_here(model, checked)))


async def _answer_here(model: Path, request: "ProcessVideoRequest") -> "Answer":
    from serve_app.local import LocalPipeline
    from serve_app.settings import EngineSettings, MediaSettings, SamplingSettings

    # Whoever runs this may read what they may read: no roots to keep to.
    media = MediaSettings(allowed_roots=(Path("/"),), num_decode_workers=1, voice=request.voice)
    pipeline = LocalPipeline(model, media, EngineSettings())
    try:
        return await pipeline.answer(request.answer_request(SamplingSettings()))
    finally:
        await pipeline.close()
