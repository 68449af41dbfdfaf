"""emotion-llama ask: one question, or a file of them, to a server or to an engine in this process."""

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from serve_app.cli.requests import OPTIONS, parse_line, read_lines, request_body
from serve_app.errors import (
    InvalidRequestError,
    NotReadyError,
    ServeAppError,
    error_by_code,
)

logger = logging.getLogger(__name__)

DEFAULT_URL = "http://127.0.0.1:7887"
EXIT_SOME_FAILED = 3

Details = dict[str, Any]
Asker = Callable[[Mapping[str, Any]], Awaitable[Details]]
"""Takes the body of a request, gives the answer with its details; raises ServeAppError."""


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
    for name, kwargs in OPTIONS.items():
        options.add_argument(f"--{name.replace('_', '-')}", **kwargs)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    given = {name: getattr(args, name) for name in OPTIONS}
    defaults = {name: value for name, value in given.items() if value is not None}
    if args.requests is not None and args.clip is None:
        if args.concurrency < 1:
            raise InvalidRequestError(f"--concurrency is {args.concurrency}; at least 1")
        return asyncio.run(_ask_all(args, defaults, read_lines(args.requests)))
    if args.requests is not None or args.question is None:
        raise InvalidRequestError("give CLIP and QUESTION, or --requests FILE.jsonl")
    body = request_body({**defaults, "clip": args.clip, "question": args.question})
    details = asyncio.run(_ask_one(args, body))
    print(json.dumps(details, ensure_ascii=False) if args.json else details["text"])
    return 0


async def _ask_one(args: argparse.Namespace, body: Mapping[str, Any]) -> Details:
    async with AsyncExitStack() as stack:
        ask = await _open(args, stack, voice="voice" in body)
        return await ask(body)


async def _ask_all(args: argparse.Namespace, defaults: Mapping[str, Any], lines: list[str]) -> int:
    """In order, each as soon as those before it are there."""
    num_failed = 0
    turns = asyncio.Semaphore(args.concurrency)
    async with AsyncExitStack() as stack:
        ask = await _open(args, stack, voice=True)
        answers = [asyncio.create_task(_answer_line(ask, turns, defaults, line)) for line in lines]
        try:
            for answer in answers:
                details = await answer
                num_failed += "error" in details
                print(json.dumps(details, ensure_ascii=False), flush=True)
        finally:
            # Before the engine goes that they are waiting for.
            for answer in answers:
                answer.cancel()
            await asyncio.gather(*answers, return_exceptions=True)
    if num_failed:
        print(f"error: {num_failed} of {len(lines)} requests failed", file=sys.stderr)
    return EXIT_SOME_FAILED if num_failed else 0


async def _answer_line(
    ask: Asker, turns: asyncio.Semaphore, defaults: Mapping[str, Any], line: str
) -> Details:
    async with turns:
        try:
            return await ask(request_body({**defaults, **parse_line(line)}))
        except ServeAppError as error:
            return _as_object(error)
        except Exception as error:  # whatever one line does, the others get their answers
            logger.exception("unexpected error")
            return _as_object(ServeAppError(f"unexpected error: {error!r}"))


def _as_object(error: ServeAppError) -> Details:
    return {
        "error": error.title,
        "code": error.status,
        "details": error.message,
        "error_code": error.code,
    }


async def _open(args: argparse.Namespace, stack: AsyncExitStack, voice: bool) -> Asker:
    """Something to ask, until the stack is left."""
    if args.model is None:
        import httpx

        client = await stack.enter_async_context(httpx.AsyncClient(timeout=None))
        return partial(_ask_server, client, args.url)
    from serve_app.local import LocalPipeline
    from serve_app.media.preprocessed import CONTAINER
    from serve_app.settings import AppSettings, EngineSettings, MediaSettings

    # Whoever runs this may read what they may read: no roots to keep to.
    media = MediaSettings(
        allowed_roots=(Path("/"),),
        containers=(*MediaSettings().containers, CONTAINER),
        num_decode_workers=1 if args.requests is None else 2,
        max_queued_clips=args.concurrency,
        voice=voice,
    )
    settings = AppSettings(model=args.model, media=media, engine=EngineSettings(dtype=args.dtype))
    pipeline = LocalPipeline(settings.model, settings.media, settings.engine)
    stack.push_async_callback(pipeline.close)
    return partial(_ask_engine, pipeline, settings)


async def _ask_engine(pipeline: Any, settings: Any, body: Mapping[str, Any]) -> Details:
    from serve_app.api.legacy import ProcessVideoRequest, check_question

    request = ProcessVideoRequest.model_validate(body)
    check_question(request.question, settings.limits)
    return asdict(await pipeline.answer(request.answer_request(settings)))


async def _ask_server(client: Any, url: str, body: Mapping[str, Any]) -> Details:
    import httpx

    try:
        response = await client.post(f"{url}/process_video", json=body)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise InvalidRequestError(f"--url {url}: {error}") from error
    except httpx.TransportError as error:
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
