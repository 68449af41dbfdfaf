"""The types that travel between processes."""

from serve_app.types import (
    NO_SOURCE,
    AnswerRequest,
    ClipSource,
    ScoreRequest,
    Turn,
    without_source,
)


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


def test_a_request_without_its_source_is_otherwise_the_same() -> None:
    source = ClipSource(data=b"a clip")
    answer = AnswerRequest(source, "Why?", history=(Turn("?", "!"),), traceparent="00-1-2-01")
    score = ScoreRequest(source, "Which?", ("a", "b"))
    for bare, whole in ((without_source(answer), answer), (without_source(score), score)):
        assert bare.source == NO_SOURCE
        names = set(type(whole).__slots__) - {"source"}
        assert all(getattr(bare, name) == getattr(whole, name) for name in names)
