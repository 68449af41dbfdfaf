"""Checks a running server: whether it is alive and ready, and whether all of its replicas are up."""

from collections.abc import Iterator
from typing import Any

import httpx

from serve_app.api.paths import ALIVE, READY, STATUS
from serve_app.client import KEY_VARIABLE
from serve_app.doctor.finding import Finding, ok, problem, warning

TIMEOUT_S = 10.0
LOGS = "its logs: docs/operations.md"


def check_server(url: str, key: str | None) -> Iterator[Finding]:
    """Checks the server at `url`. `key` is an API key, for a server that needs one."""
    headers = {} if key is None else {"X-API-Key": key}
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=headers) as http:
        for path, advice in {
            ALIVE: "start it: emotion-llama serve",
            READY: f"wait until the model is loaded; {LOGS}",
        }.items():
            finding, _ = _get(http, path, advice)
            yield finding
            if finding.level != "ok":
                return
        finding, response = _get(http, STATUS, f"give a key: {KEY_VARIABLE}")
        yield finding
        if response is not None and finding.level == "ok":
            yield from _check_status(response.json())


def _get(http: httpx.Client, path: str, advice: str) -> tuple[Finding, httpx.Response | None]:
    try:
        response = http.get(path)
    except httpx.TransportError as error:
        return problem(path, f"{http.base_url} does not answer: {error}", advice), None
    seen = f"{response.status_code} in {response.elapsed.total_seconds() * 1e3:.0f} ms"
    if response.is_success:
        return ok(path, seen), response
    return problem(path, f"{seen}: {response.text}", advice), response


def _check_status(status: dict[str, Any]) -> Iterator[Finding]:
    if status["deployments"] is None:
        advice = f"is the head node up? {LOGS}"
        yield problem("deployments", "Ray Serve's controller does not answer", advice)
    for name, deployment in (status["deployments"] or {}).items():
        replicas = ", ".join(f"{num} {state}" for state, num in deployment["replicas"].items())
        seen = f"{deployment['status']}: {replicas or 'no replica'}"
        if deployment["status"] == "HEALTHY":
            yield ok(name, seen)
        else:
            yield warning(name, seen, f"serve status says why; {LOGS}")
    requests = status["requests"]
    seen = f"{requests['in_flight']} of {requests['limit']}, the oldest {requests['oldest_s']} s"
    if requests["in_flight"] < requests["limit"]:
        yield ok("requests inside", seen)
    else:
        yield warning(
            "requests inside", seen, "more are refused: add replicas or send fewer requests"
        )
