"""An engine that hangs, told from one that is idle or busy."""

import pytest

from serve_app.engine.stall import StallWatch
from serve_app.errors import EngineDeadError


def test_no_step_for_too_long_is_a_stall() -> None:
    watch = StallWatch(10)
    watch.check(3, 7, now_s=100)
    watch.check(3, 7, now_s=110)
    with pytest.raises(EngineDeadError, match=r"3 requests .* no step for 11 s; the limit is 10 s"):
        watch.check(3, 7, now_s=111)
    watch.check(3, 8, now_s=112)  # it was only slow


def test_neither_an_idle_engine_nor_its_first_request_is_a_stall() -> None:
    watch = StallWatch(10)
    watch.check(0, 7, now_s=100)
    watch.check(0, 7, now_s=200)
    watch.check(1, 7, now_s=205)
    watch.check(1, 8, now_s=300)  # the next look was late; there were steps


def test_the_time_begins_at_the_last_look_that_found_it_idle() -> None:
    watch = StallWatch(10)
    watch.check(0, 7, now_s=100)
    watch.check(1, 7, now_s=110)
    with pytest.raises(EngineDeadError):
        watch.check(1, 7, now_s=111)
