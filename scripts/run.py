"""`make run`: starts the server, asks about a sample clip, prints the answers, and keeps serving."""

import argparse
import json
import sys
from pathlib import Path

import httpx

from serve_app.bundled import SAMPLE
from serve_app.errors import ServeAppError
from serve_app.serve_config import load_serve_config
from serve_app.server import running_server, wait_for_signal

CONFIG = Path("configs/serve.yaml")
QUESTIONS = (
    "[emotion] What is the emotion expressed in this video?",
    "[reason] What are the facial expressions and vocal tone used in the video?",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=7887)
    args = parser.parse_args()
    print("starting (half a minute on two cores) ...", flush=True)
    try:
        with running_server(load_serve_config(CONFIG, port=args.port)) as url:
            ask(url)
            wait_for_signal()
    except ServeAppError as error:
        print(f"error: {error.title}: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def ask(url: str) -> None:
    print(f"\nclip:     {SAMPLE}  (a drawn face and a synthetic voice)")
    for question in QUESTIONS:
        body = {"video_path": str(SAMPLE), "question": question, "temperature": 0}
        response = httpx.post(f"{url}/process_video", json=body, timeout=60).raise_for_status()
        print(f"question: {question}\nanswer:   {response.json()['response']}")
    print(f"\nAsk again:\n\n  curl {url}/process_video -H 'Content-Type: application/json' \\")
    print(f"    -d '{json.dumps(body)}'\n\nserving on {url}; Ctrl-C stops it", flush=True)


if __name__ == "__main__":
    sys.exit(main())
