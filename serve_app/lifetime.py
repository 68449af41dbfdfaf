"""Ends processes together with the process they work for, even when that one is killed."""

import ctypes
import os
import signal
from multiprocessing import resource_tracker
from multiprocessing.util import Finalize

PR_SET_PDEATHSIG = 1  # linux/prctl.h
ENGINE_OWNER = "EMOTION_LLAMA_ENGINE_OWNER"  # environment: pid of the process that holds the Engine


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def own_engines() -> None:
    """Name this process as the owner of the engines it starts. Their processes inherit the variable."""
    os.environ[ENGINE_OWNER] = str(os.getpid())


def end_resource_tracker_at_exit() -> None:
    """Called in an actor that uses multiprocessing: else its process may outlive its cluster.

    Where Ray rotates logs, a worker that exits waits until nobody holds its output any more.
    multiprocessing's resource tracker does, until the worker has exited.
    """
    # After multiprocessing's own finalizers, the last of which still talk to the tracker.
    Finalize(None, resource_tracker._resource_tracker._stop, exitpriority=-1000)  # type: ignore[attr-defined]


def end_engine_with_owner() -> None:
    """Entry point of `vllm.general_plugins`: vLLM calls it in every process it starts.

    vLLM's EngineCore survives the SIGKILL of its parent and keeps the GPU's memory, which the replacement
    of a killed replica needs. Does nothing under plain vLLM.
    """
    owner = os.environ.get(ENGINE_OWNER)
    if owner == str(os.getppid()):
        die_with_parent()
        if owner != str(os.getppid()):  # the owner ended in between
            os._exit(1)
