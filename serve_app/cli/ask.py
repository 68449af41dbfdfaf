"""emotion-llama ask: sends one question, or a file of them, to a server or to an engine in this process."""

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve_app.cli.exit_status import SOME_FAILED
from serve_app.cli.requests import OPTIONS, parse_line, read_lines, request_body
from serve_app.cli.target import add_target_arguments
from serve_app.client import Client, Details, Target, open_client
from serve_app.errors import InvalidRequestError, ServeAppError

logger = logging.getLogger(__name__)


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("ask", help="ask about a clip, or a file of questions about clips")
    parser.add_argument(
        "clip", nargs="?", help="a video; with --model also an .npz that `preprocess` wrote"
    )
    parser.add_argument("question", nargs="?")
    parser.add_argument(
        "--requests",
        type=Path,
        metavar="FILE.jsonl",
        help='ask many questions: lines of {"clip", "question"} and any options below by their long names; '
        "prints one JSON object for each, in order",
    )
    add_target_arguments(parser)
    parser.add_argument(
        "--concurrency",
        type=int,
        default=32,
        help="with --requests: requests at a time; default: %(default)s",
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
        target = _target(args, args.concurrency, voice=True)
        return asyncio.run(_ask_all(target, defaults, read_lines(args.requests)))
    if args.requests is not None or args.question is None:
        raise InvalidRequestError("give CLIP and QUESTION, or --requests FILE.jsonl")
    body = request_body({**defaults, "clip": args.clip, "question": args.question})
    details = asyncio.run(_ask_one(_target(args, 1, "voice" in body), body))
    print(json.dumps(details, ensure_ascii=False) if args.json else details["text"])
    return 0


def _target(args: argparse.Namespace, concurrency: int, voice: bool) -> Target:
    return Target(args.url, args.model, args.dtype, concurrency, voice)


async def _ask_one(target: Target, body: Mapping[str, Any]) -> Details:
    async with open_client(target) as client:
        return await client.answer(body)


async def _ask_all(target: Target, defaults: Mapping[str, Any], lines: list[str]) -> int:
    """Prints answers in the order of the lines, each as soon as it and those before it are there."""
    num_failed = 0
    turns = asyncio.Semaphore(target.concurrency)
    async with open_client(target) as client:
        answers = [
            asyncio.create_task(_answer_line(client, turns, defaults, line)) for line in lines
        ]
        try:
            for answer in answers:
                details = await answer
                num_failed += "error" in details
                print(json.dumps(details, ensure_ascii=False), flush=True)
        finally:
            # Before the engine that they are waiting for is closed.
            for answer in answers:
                answer.cancel()
            await asyncio.gather(*answers, return_exceptions=True)
    if num_failed:
        print(f"error: {num_failed} of {len(lines)} requests failed", file=sys.stderr)
    return SOME_FAILED if num_failed else 0


async def _answer_line(
    client: Client, turns: asyncio.Semaphore, defaults: Mapping[str, Any], line: str
) -> Details:
    async with turns:
        try:
            return await client.answer(request_body({**defaults, **parse_line(line)}))
        except ServeAppError as error:
            return _as_object(error)
        except Exception as error:  # a failure of one line must not cost the others their answers
            logger.exception("unexpected error")
            return _as_object(ServeAppError(f"unexpected error: {error!r}"))


def _as_object(error: ServeAppError) -> Details:
    return {
        "error": error.title,
        "code": error.status,
        "details": error.message,
        "error_code": error.code,
    }
