"""How worker processes start: from a fork server that has the decoders imported already."""

import io
import os
from multiprocessing import context, forkserver, popen_forkserver, reduction, spawn, util
from multiprocessing.context import set_spawning_popen
from typing import Any

MAIN_KEYS = ("init_main_from_name", "init_main_from_path")


class _Popen(popen_forkserver.Popen):
    """Like its parent, but the new process does not import our `__main__`.

    In a Ray replica that is Ray's worker script: a second of imports, for nothing we need.
    """

    _fds: list[int]

    def _launch(self, process_obj: Any) -> None:
        data = spawn.get_preparation_data(process_obj._name)
        data = {key: value for key, value in data.items() if key not in MAIN_KEYS}
        buffer = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(data, buffer)
            reduction.dump(process_obj, buffer)
        finally:
            set_spawning_popen(None)
        self.sentinel, write_end = forkserver.connect_to_new_process(self._fds)
        parent_end = os.dup(write_end)  # the child sees it close when we end
        self.finalizer = util.Finalize(self, _close, (parent_end, self.sentinel))
        with open(write_end, "wb", closefd=True) as pipe:
            pipe.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


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
