"""The timings that a caller gets with an answer."""

import pytest

from serve_app.timings import answer_timings_ms


def test_waiting_is_what_neither_stage_accounts_for() -> None:
    stages = {"decode": 30.0, "queue": 5.0, "first_token": 40.0, "total": 100.0}
    timings = answer_timings_ms(stages, elapsed_ms=150.0)
    assert timings == {
        "decode": 30.0,
        "queue": pytest.approx(20.0 + 5.0),
        "first_token": pytest.approx(90.0),
        "total": 150.0,
    }
