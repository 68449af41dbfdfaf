"""How worker processes start: from a fork server that has the decoders imported already."""

import threading
from multiprocessing import context, popen_forkserver, spawn
from typing import Any

MAIN_KEYS = ("init_main_from_name", "init_main_from_path")

_preparation_data = spawn.get_preparation_data
_launching = threading.Lock()  # two replacements at once would not restore the original


class _Popen(popen_forkserver.Popen):
    """Like its parent class, but the new process does not import our `__main__`.

    In a Ray replica `__main__` is Ray's worker script: a second of imports that a decode worker does not
    need. multiprocessing has no option for it, so its `get_preparation_data` is replaced for the launch.
    """

    def _launch(self, process_obj: Any) -> None:
        with _launching:
            spawn.get_preparation_data = _without_main
            try:
                super()._launch(process_obj)  # type: ignore[misc]
            finally:
                spawn.get_preparation_data = _preparation_data


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
