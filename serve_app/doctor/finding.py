"""Findings: the results of checks."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str  # what was checked
    level: Level  # a problem keeps the server from working; a warning may
    seen: str
    advice: str = ""  # what to do; empty if all is well
    node: str = ""  # node of a cluster; empty for this machine or a server


def ok(check: str, seen: str) -> Finding:
    return Finding(check, "ok", seen)


def warning(check: str, seen: str, advice: str) -> Finding:
    return Finding(check, "warning", seen, advice)


def problem(check: str, seen: str, advice: str) -> Finding:
    return Finding(check, "problem", seen, advice)
