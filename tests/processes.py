"""Finds the processes that tests look at or end."""

import psutil


def is_engine(process: psutil.Process) -> bool:
    """vLLM's EngineCore: a spawned process that gives itself that name, though not always at once."""
    words = [process.name(), *process.cmdline()]
    return any("EngineCore" in word or "spawn_main" in word for word in words)
