"""The garbage collector around an engine's start."""

import gc

import pytest

from serve_app.engine.collector import collector_paused


def test_the_collector_rests_in_the_block_and_leaves_alone_what_is_alive_after_it() -> None:
    try:
        with collector_paused():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_the_collector_works_again_after_a_start_that_failed() -> None:
    try:
        with pytest.raises(RuntimeError), collector_paused():
            raise RuntimeError
        assert gc.isenabled()
    finally:
        gc.unfreeze()
