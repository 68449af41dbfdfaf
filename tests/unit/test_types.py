"""What the nouns can do."""

from serve_app.types import ClipSource


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
