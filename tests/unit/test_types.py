"""Arithmetic of the nouns."""

import pytest

from serve_app.types import ClipSource, request_timings_ms


def test_waiting_is_what_neither_stage_accounts_for() -> None:
    stages = {"decode": 30.0, "queue": 5.0, "first_token": 40.0, "total": 100.0}
    timings = request_timings_ms(stages, elapsed_ms=150.0)
    assert timings == {
        "decode": 30.0,
        "queue": pytest.approx(20.0 + 5.0),
        "first_token": pytest.approx(90.0),
        "total": 150.0,
    }


def test_a_clips_key_is_its_own() -> None:
    named = "https://clips.example/1.mp4"
    sources = [
        ClipSource(path=named),
        ClipSource(url=named),
        ClipSource(data=named.encode()),
        ClipSource(url="https://clips.example/2.mp4"),
        ClipSource(path="/clips/\udcff.mp4"),  # a file whose name is not text
    ]
    keys = [source.key() for source in sources]
    assert len(set(keys)) == len(sources)
    assert keys == [source.key() for source in sources]
