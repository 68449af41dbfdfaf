"""Ready features travel with the clip, and are part of its content hash."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from media.clips import colour_frames, tone

from serve_app.demo.movie import write_clip
from serve_app.media.decode import content_sha256, decode_clip, with_features
from serve_app.media.pool import DecodePool
from serve_app.media.worker import decode_data
from serve_app.settings import MediaSettings
from serve_app.types import ClipSource, DecodeOptions, Features

FACE = np.arange(4, dtype=np.float32)
FEATURES: Features = {"temporal_feature": FACE + 1, "face_feature": FACE}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return write_clip(path, colour_frames(1), [tone(1.0)]).read_bytes()


async def test_they_arrive_through_the_pool(data: bytes) -> None:
    pool = DecodePool(MediaSettings(num_decode_workers=1, voice=False), image_size=224)
    clip = await pool.decode(ClipSource(data=data, features=FEATURES), DecodeOptions())
    pool.close()
    assert set(clip.features) == set(FEATURES)
    for name, feature in FEATURES.items():
        np.testing.assert_array_equal(clip.features[name], feature)


def test_a_source_without_any_gives_the_clip_that_decoding_gives(data: bytes) -> None:
    options, settings = DecodeOptions(), MediaSettings()
    plain = decode_clip(data, options, settings, 224)
    worked = decode_data(data, {}, options, settings, 224)
    assert worked.content_sha256 == plain.content_sha256
    assert worked.features == plain.features == {}


def test_they_are_part_of_the_content(data: bytes) -> None:
    plain = decode_clip(data, DecodeOptions(), MediaSettings(), 224)
    others: list[Features] = [
        FEATURES,
        dict(list(FEATURES.items())[:1]),
        {**FEATURES, "face_feature": FACE + 1},
        {"face_feature": FACE + 1, "temporal_feature": FACE},  # swapped
        {**FEATURES, "audio_feature": FACE},
        {"face_feature": FACE.reshape(2, 2)},
    ]
    contents = {with_features(plain, features).content_sha256 for features in others}
    assert len(contents | {plain.content_sha256}) == len(others) + 1


def test_their_order_does_not_matter() -> None:
    backwards = dict(reversed(list(FEATURES.items())))
    assert content_sha256(None, None, FEATURES) == content_sha256(None, None, backwards)


def test_without_any_the_digest_is_what_it_was() -> None:
    frame, waveform = np.zeros((2, 2, 3), np.uint8), np.ones(3, np.int16)
    content = b"frame(2, 2, 3)" + bytes(12) + b"waveform(3,)" + b"\1\0" * 3
    assert content_sha256(frame, waveform) == hashlib.sha256(content).hexdigest()


def test_a_source_survives_pickling() -> None:
    source = pickle.loads(pickle.dumps(ClipSource(path="/clip.mp4", features=FEATURES)))
    assert source.path == "/clip.mp4"
    np.testing.assert_array_equal(source.features["face_feature"], FACE)


def test_a_feature_nobody_knows_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="video_feature"):
        ClipSource(path=str(Path("/clip.mp4")), features={"video_feature": FACE})
