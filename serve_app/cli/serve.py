"""emotion-llama serve: runs the server on this machine or on a running Ray cluster."""

import argparse
from pathlib import Path
from typing import Any

DEFAULT_CONFIG = Path("configs/serve.yaml")


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("serve", help="start the server and keep it running")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="default: %(default)s")
    parser.add_argument("--model", type=Path, help="checkpoint directory, in place of the config's")
    parser.add_argument(
        "--port", type=int, help="listen on this port only, in place of the config's"
    )
    parser.add_argument("--address", help="a running Ray cluster; default: start Ray here")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from serve_app.serve_config import app_settings, load_serve_config
    from serve_app.server import running_server, wait_for_signal

    config = load_serve_config(args.config, args.model, args.port)
    print(f"starting {config.applications[0].args['model']} ...", flush=True)
    with running_server(config, args.address) as url:
        ports = "".join(f", :{port}" for port in app_settings(config).extra_ports)
        print(f"ready: {url}{ports}   (Ctrl-C stops it)", flush=True)
        wait_for_signal()
    return 0
