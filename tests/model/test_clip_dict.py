"""The clip dict: absent fields are filled in, wrong ones are named in an error."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_tiny_checkpoint import tiny_config

from serve_app.model.processing import MEAN_PIXEL, complete_clip
from serve_app.model.towers import normalise_frame

CONFIG = tiny_config()
FRAME = np.full((448, 448, 3), 7, np.uint8)
WAVEFORM = np.ones(16_000, np.int16)


def test_260_positions_at_448_px() -> None:
    assert CONFIG.num_clip_positions == 260


def test_missing_fields_become_zeros() -> None:
    clip = complete_clip({"frame": FRAME, "waveform": WAVEFORM}, CONFIG)
    assert set(clip) == {"frame", "waveform", "face_feature", "temporal_feature"}
    assert not clip["face_feature"].any()
    assert complete_clip({"frame": FRAME}, CONFIG)["audio_feature"].shape == (64,)


def test_a_missing_frame_normalises_to_almost_zero() -> None:
    frame = complete_clip({"waveform": WAVEFORM}, CONFIG)["frame"]
    assert tuple(frame[0, 0].tolist()) == MEAN_PIXEL
    assert normalise_frame(frame).abs().max() < 0.01


def test_given_features_are_kept() -> None:
    feature = torch.arange(64, dtype=torch.float32)
    clip = complete_clip(
        {"frame": FRAME, "audio_feature": feature, "face_feature": feature}, CONFIG
    )
    assert torch.equal(clip["face_feature"], feature)
    assert "waveform" not in clip


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ({"image": FRAME}, "unknown clip fields"),
        ({"frame": FRAME[:447]}, r"frame is \(447, 448, 3\)"),
        ({"frame": FRAME / 255}, "frame is .* torch.float64"),
        ({"waveform": WAVEFORM / 1.0}, "waveform is .* torch.float64"),
        ({"waveform": WAVEFORM[:399]}, "399 samples; at least 400"),
        ({"waveform": WAVEFORM, "audio_feature": torch.zeros(64)}, "not both"),
        ({"face_feature": torch.zeros(63)}, r"face_feature is \(63,\)"),
    ],
    ids=["unknown", "shape", "dtype", "float waveform", "short", "both", "width"],
)
def test_a_wrong_field_is_refused(clip: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        complete_clip(clip, CONFIG)


def test_the_tiny_config_reads_back_from_disk(tiny_checkpoint: Path) -> None:
    from serve_app.model.config import EmotionLlamaConfig

    config = EmotionLlamaConfig.from_pretrained(tiny_checkpoint)
    assert config.num_clip_positions == 260
    assert config.text_config.architectures == ["LlamaForCausalLM"]
    assert config.video_token_index == config.text_config.vocab_size
