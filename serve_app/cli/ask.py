"""emotion-llama ask: one question, or a file of them, to a server or to an engine in this process."""

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_app.errors import (
    InvalidRequestError,
    NotReadyError,
    ServeAppError,
    error_by_code,
)

if TYPE_CHECKING:
    from serve_app.api.legacy import ProcessVideoRequest

DEFAULT_URL = "http://127.0.0.1:7887"
EXIT_SOME_FAILED = 3

Details = dict[str, Any]
Asker = Callable[[Mapping[str, Any]], Awaitable[Details]]
"""Takes a request as `_request` checks it, gives the answer with its details; raises ServeAppError."""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("ask", help="ask about a clip, or a file of questions about clips")
    parser.add_argument("clip", nargs="?", help="a video, or an .npz of `preprocess` (--model)")
    parser.add_argument("question", nargs="?")
    parser.add_argument(
        "--requests",
        type=Path,
        metavar="FILE.jsonl",
        help='many at once: lines of {"clip", "question", ...options below by their long names}; '
        "prints one JSON object for each, in order",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", default=DEFAULT_URL, help="of a server; default: %(default)s")
    where.add_argument("--model", type=Path, help="run this checkpoint here, without a server")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="of the engine, with --model; default: the checkpoint's",
    )
    parser.add_argument(
        "--concurrency", type=int, default=32, help="of --requests; default: %(default)s"
    )
    parser.add_argument("--json", action="store_true", help="print one object with all details")
    options = parser.add_argument_group("options of a request")
    for name, kwargs in REQUEST_OPTIONS.items():
        options.add_argument(f"--{name.replace('_', '-')}", **kwargs)
    parser.set_defaults(run=run)


REQUEST_OPTIONS: dict[str, dict[str, Any]] = {
    "frame": {"help": "first, middle, sharpest or a time in s; default: first"},
    "voice": {"action": "store_true", "default": None, "help": "add statistics of the voice"},
    "temperature": {"type": float},
    "top_p": {"type": float},
    "top_k": {"type": int},
    "repetition_penalty": {"type": float, "help": "over the answer's tokens; 1 is none"},
    "max_tokens": {"type": int},
    "seed": {"type": int},
    "parity": {"choices": ("default", "reference"), "help": "reference: as the original does it"},
    "layout": {"choices": ("chat", "evaluation", "training")},
    "tokenization": {"choices": ("4.30", "4.35"), "help": "of which transformers"},
    "audio_mode": {"choices": ("clean", "reference"), "help": "default: goes with --parity"},
    "features": {
        "metavar": "FILE.npz",
        "help": "ready features: face_feature, temporal_feature, audio_feature, each (width,); "
        "or all as video_features (3, width)",
    },
}


def run(args: argparse.Namespace) -> int:
    if (args.requests is None) == (args.clip is None or args.question is None):
        raise InvalidRequestError("give CLIP and QUESTION, or --requests FILE.jsonl")
    given = {name: getattr(args, name) for name in REQUEST_OPTIONS}
    defaults = {name: value for name, value in given.items() if value is not None}
    if args.requests is None:
        details = asyncio.run(_ask_one(args, defaults))
        print(json.dumps(details, ensure_ascii=False) if args.json else details["text"])
        return 0
    if args.concurrency < 1:
        raise InvalidRequestError(f"--concurrency is {args.concurrency}; at least 1")
    return asyncio.run(_ask_all(args, defaults))


async def _ask_one(args: argparse.Namespace, defaults: Mapping[str, Any]) -> Details:
    request = _request({**defaults, "clip": args.clip, "question": args.question})
    if args.model is not None:
        _validate(request)  # before an engine is started for nothing
    async with AsyncExitStack() as stack:
        ask = await _open(args, stack, bool(request["voice"]))
        return await ask(request)


async def _ask_all(args: argparse.Namespace, defaults: Mapping[str, Any]) -> int:
    """In order, each as soon as those before it are there."""
    try:
        lines = [line for line in args.requests.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"--requests {args.requests}: {error}") from error
    num_failed = 0
    async with AsyncExitStack() as stack:
        ask = await _open(args, stack, voice=True)
        turns = asyncio.Semaphore(args.concurrency)
        answers = [asyncio.create_task(_answer_line(ask, turns, defaults, line)) for line in lines]
        for answer in answers:
            details = await answer
            num_failed += "error" in details
            print(json.dumps(details, ensure_ascii=False), flush=True)
    if num_failed:
        print(f"error: {num_failed} of {len(lines)} requests failed", file=sys.stderr)
    return EXIT_SOME_FAILED if num_failed else 0


async def _answer_line(
    ask: Asker, turns: asyncio.Semaphore, defaults: Mapping[str, Any], line: str
) -> Details:
    async with turns:
        try:
            return await ask(_request({**defaults, **_parse(line)}))
        except ServeAppError as error:
            return {
                "error": error.title,
                "code": error.status,
                "details": error.message,
                "error_code": error.code,
            }


def _parse(line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise InvalidRequestError(f"not a line of JSON: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidRequestError(f"a line holds an object, not {line[:40]!r}")
    return {name.replace("-", "_"): value for name, value in fields.items()}


def _request(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request to /process_video.

    Raises:
        InvalidRequestError: a field is unknown or missing, or its features cannot be read.
    """
    unknown = fields.keys() - {"clip", "question", *REQUEST_OPTIONS}
    if unknown:
        raise InvalidRequestError(f"unknown fields {sorted(unknown)}")
    for name in ("clip", "question"):
        if not isinstance(fields.get(name), str):
            raise InvalidRequestError(f"{name} is missing, or is no text")
    options = {name: fields[name] for name in REQUEST_OPTIONS if fields.get(name) is not None}
    if "features" in options:
        options["features"] = _read_features(options["features"])
    return options | {
        "video_path": str(Path(fields["clip"]).resolve()),
        "question": fields["question"],
        "frame": _name_or_seconds(options.get("frame", "first")),
        "voice": options.get("voice", False),
        "details": True,
    }


def _name_or_seconds(value: Any) -> Any:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return value
    return (
        seconds if math.isfinite(seconds) else str(value)
    )  # JSON has no NaN; as a name it is refused


def _read_features(path: Any) -> dict[str, list[float]]:
    from serve_app.media.features import read_features

    if not isinstance(path, str):
        raise InvalidRequestError("features is no path of an npz file")
    return {name: values.tolist() for name, values in read_features(Path(path)).items()}


async def _open(args: argparse.Namespace, stack: AsyncExitStack, voice: bool) -> Asker:
    """Something to ask, until the stack is left."""
    if args.model is None:
        import httpx

        client = await stack.enter_async_context(httpx.AsyncClient(timeout=None))
        return partial(_ask_server, client, args.url)
    from serve_app.local import LocalPipeline
    from serve_app.media.preprocessed import CONTAINER
    from serve_app.settings import AppSettings, EngineSettings, MediaSettings

    containers = (*MediaSettings().containers, CONTAINER)
    # Whoever runs this may read what they may read: no roots to keep to.
    media = MediaSettings(
        allowed_roots=(Path("/"),),
        containers=containers,
        num_decode_workers=1 if args.requests is None else 2,
        max_queued_clips=args.concurrency,
        voice=voice,
    )
    settings = AppSettings(model=args.model, media=media, engine=EngineSettings(dtype=args.dtype))
    pipeline = LocalPipeline(settings.model, settings.media, settings.engine)
    stack.push_async_callback(pipeline.close)
    return partial(_ask_engine, pipeline, settings)


def _validate(request: Mapping[str, Any]) -> "ProcessVideoRequest":
    """As the server does. Raises InvalidRequestError."""
    from pydantic import ValidationError

    from serve_app.api.legacy import ProcessVideoRequest

    try:
        return ProcessVideoRequest.model_validate(request)
    except ValidationError as error:
        raise InvalidRequestError(str(error)) from error


async def _ask_engine(pipeline: Any, settings: Any, request: Mapping[str, Any]) -> Details:
    from serve_app.api.legacy import check_question

    checked = _validate(request)
    check_question(checked.question, settings.limits)
    return asdict(await pipeline.answer(checked.answer_request(settings)))


async def _ask_server(client: Any, url: str, request: Mapping[str, Any]) -> Details:
    import httpx

    try:
        response = await client.post(f"{url}/process_video", json=request)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise NotReadyError(f"no server answers at {url}: {error}") from error
    if not response.is_success:
        raise _remote_error(response)
    details: Details = response.json()["details"]
    return details


def _remote_error(response: Any) -> ServeAppError:
    """The server's error as the same class here. What is not in our form came from a proxy."""
    kind = error_by_code(response.headers.get("X-Error-Code"))
    try:
        return kind(response.json()["details"])
    except (ValueError, KeyError, TypeError):
        return ServeAppError(f"status {response.status_code}: {response.text[:200]}")
