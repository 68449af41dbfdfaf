"""What a check found."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str  # what was looked at
    level: Level  # a problem keeps the server from working; a warning may
    seen: str
    advice: str = ""  # what to do; empty where all is well
    node: str = ""  # of a cluster; empty: this machine, or a server


def ok(check: str, seen: str) -> Finding:
    return Finding(check, "ok", seen)


def warning(check: str, seen: str, advice: str) -> Finding:
    return Finding(check, "warning", seen, advice)


def problem(check: str, seen: str, advice: str) -> Finding:
    return Finding(check, "problem", seen, advice)
