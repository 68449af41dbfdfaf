"""emotion-llama key: makes an API key, prints it once, and adds its hash to a file."""

import argparse
import hashlib
import secrets
from pathlib import Path
from typing import Any

PREFIX = "el-"
NUM_BYTES = 32


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("key", help="make an API key and add its hash to a file")
    parser.add_argument("name", help="the caller's name, as it appears in the log")
    parser.add_argument("--file", type=Path, required=True, help="a JSON file; created if missing")
    parser.add_argument("--rate", help='such as "10/minute"; default: the server\'s')
    parser.add_argument("--expires", help="such as 2027-01-01T00:00:00Z; default: never")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from serve_app.api_keys import ApiKey, add_key
    from serve_app.validation import validated

    key = PREFIX + secrets.token_urlsafe(NUM_BYTES)
    entry = {
        "name": args.name,
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "rate": args.rate,
        "expires": args.expires,
    }
    add_key(args.file, validated(ApiKey, entry))
    print(key)
    return 0
