"""emotion-llama doctor: checks whether the server will work here, and says what to do if not."""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_app.cli.serve import DEFAULT_CONFIG
from serve_app.client import KEY_VARIABLE
from serve_app.errors import ConfigurationError

if TYPE_CHECKING:
    from serve_app.doctor.finding import Finding


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("doctor", help="check this machine, the config, a running server")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="default: %(default)s")
    parser.add_argument("--model", type=Path, help="checkpoint directory, in place of the config's")
    parser.add_argument(
        "--url", help=f"also check the running server there, with the API key in {KEY_VARIABLE}"
    )
    parser.add_argument(
        "--address",
        help="HOST:PORT of a running Ray cluster, or auto: check each of its nodes instead of this machine",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as a JSON list")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    findings: list[Finding] = []
    node = ""
    for finding in _findings(args):
        findings.append(finding)
        if args.json:
            continue
        if finding.node != node:
            node = finding.node
            print(f"\n{node}")
        print(_line(finding), flush=True)
    num_problems = sum(finding.level == "problem" for finding in findings)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        num_warnings = sum(finding.level == "warning" for finding in findings)
        print(f"{num_problems} problems, {num_warnings} warnings")
    return 1 if num_problems else 0


def _findings(args: argparse.Namespace) -> Iterator["Finding"]:
    from serve_app.doctor.cluster import check_cluster
    from serve_app.doctor.configuration import check_configuration, check_model, weights_bytes
    from serve_app.doctor.finding import ok, problem
    from serve_app.doctor.machine import check_machine
    from serve_app.doctor.running import check_server
    from serve_app.doctor.software import check_software
    from serve_app.serve_config import app_settings, load_serve_config
    from serve_app.settings import MediaSettings

    try:
        config = load_serve_config(args.config, args.model)
    except ConfigurationError as error:
        yield problem("config", error.message, "correct the key named here")
        settings, media = None, MediaSettings()
    else:
        yield ok("config", str(args.config))
        settings = app_settings(config)
        media = settings.media
    if args.address is not None:
        model = None if args.model is None else args.model.absolute()
        yield from check_cluster(args.address, media.containers, model)
    else:
        yield from check_software(media.containers)
        yield from check_machine(weights_bytes(settings.model) if settings else 0)
        if settings:
            yield from check_configuration(config, looks_at_ports=args.url is None)
            yield from check_model(settings.model)
    if args.url is not None:
        yield from check_server(args.url, os.environ.get(KEY_VARIABLE))


def _line(finding: "Finding") -> str:
    advice = f"\n{'':9}-> {finding.advice}" if finding.advice else ""
    return f"{finding.level:8} {finding.check}: {finding.seen}{advice}"
