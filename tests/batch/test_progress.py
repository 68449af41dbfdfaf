"""The progress line of a running job."""

import io

import pytest

from serve_app.batch.progress import LINE_S, WINDOW_S, Progress


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_rate_time_left_errors_and_shares(clock: Clock) -> None:
    progress = Progress(1000, 100, io.StringIO(), clock)
    clock.now += 5
    assert progress.line() == "100/1000 rows  starting (5 s)"
    progress.update(100, {}, {"engine a": (1.0, 5.0), "cpu m": (50.0, 100.0)})
    clock.now += 10
    busy = {"engine a": (10.0, 15.0), "cpu m": (65.0, 120.0)}
    progress.update(400, {"clip_not_found": 2, "undecodable_clip": 3}, busy)
    assert progress.line() == (
        "400/1000 rows  30.0 rows/s  ETA 0:00:20  "
        "errors 5 (undecodable_clip 3, clip_not_found 2)  cpu 75%  engine 90%"
    )


def test_the_rate_of_the_run_begins_when_the_engine_has_its_first_row(clock: Clock) -> None:
    progress = Progress(1000, 100, io.StringIO(), clock)
    clock.now += 30
    progress.update(116, {}, {"engine a": (4.0, 20.0)})
    clock.now += 6
    progress.update(300, {}, {"engine a": (10.0, 26.0)})
    assert progress.start_s == 26
    assert progress.rows_per_s == 20


def test_readings_that_come_late_do_not_turn_the_clock_back(clock: Clock) -> None:
    progress = Progress(10, 0, io.StringIO(), clock)
    for reading in [(1.0, 2.0), (5.0, 10.0), (3.0, 4.0)]:
        progress.update(1, {}, {"engine a": reading})
    assert progress.busy_shares() == {"engine": 0.5}


def test_the_shown_rate_is_that_of_the_last_minute(clock: Clock) -> None:
    progress = Progress(10_000, 0, io.StringIO(), clock)
    for step in range(200):
        clock.now += 1
        progress.update(step * 10 if step < 100 else 1000 + (step - 100) * 20, {}, {})
    assert "20.0 rows/s" in progress.line()
    assert WINDOW_S < 100


def test_where_nobody_watches_a_line_comes_now_and_then(clock: Clock) -> None:
    stream = io.StringIO()
    progress = Progress(10, 0, stream, clock)
    for _ in range(100):
        clock.now += 1
        progress.show()
    assert len(stream.getvalue().splitlines()) == 100 / LINE_S
