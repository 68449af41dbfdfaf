"""emotion-llama COMMAND: one module per command; heavy packages are imported only when they are needed."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from serve_app.cli import ask, batch, check, convert, doctor, evaluate, key, preprocess, serve
from serve_app.cli.exit_status import CALLER_FAULT, SERVER_FAULT
from serve_app.errors import RequestError, ServeAppError

COMMANDS = (serve, ask, batch, convert, check, preprocess, evaluate, key, doctor)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0, 1 (our fault), 2 (the caller's fault) or a command's own."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
        return status
    except ServeAppError as error:
        print(f"error: {error.title}: {error.message}", file=sys.stderr)
        return CALLER_FAULT if isinstance(error, RequestError) else SERVER_FAULT
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emotion-llama", description="Emotion-LLaMA on Ray Serve")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser
