"""How worker processes start: from a fork server that has the decoders imported already."""

import threading
from multiprocessing import context, popen_forkserver, spawn
from typing import Any
from unittest.mock import patch

MAIN_KEYS = ("init_main_from_name", "init_main_from_path")

_preparation_data = spawn.get_preparation_data
_launching = threading.Lock()  # two patches at once would not undo each other


class _Popen(popen_forkserver.Popen):
    """Like its parent, but the new process does not import our `__main__`.

    In a Ray replica that is Ray's worker script: a second of imports, for nothing we need. There is
    no other way to say so: `get_preparation_data` decides it alone.
    """

    def _launch(self, process_obj: Any) -> None:
        with _launching, patch.object(spawn, "get_preparation_data", _without_main):
            super()._launch(process_obj)  # type: ignore[misc]


def _without_main(name: str) -> dict[str, Any]:
    data = _preparation_data(name)
    return {key: value for key, value in data.items() if key not in MAIN_KEYS}


class _Process(context.ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:
        return _Popen(process_obj)


class WorkerContext(context.ForkServerContext):
    """Not plain fork: the server has threads, and a copy of its locks might never be released."""

    Process = _Process


def worker_context(*preload: str) -> WorkerContext:
    workers = WorkerContext()
    workers.set_forkserver_preload(list(preload))
    return workers
