"""Turns a clip and a prompt into vLLM's inputs: arrays, cache key and token ids."""

from typing import Any

from serve_app.model.arguments import BEFORE_FEATURES, MODALITY
from serve_app.prompt import Prompt
from serve_app.types import Clip

CLIP_FIELDS = ("frame", "waveform", "face_feature", "temporal_feature")


def engine_prompt(encoded: Prompt, clip: Clip, marker_id: int) -> dict[str, Any]:
    """vLLM's prompt: token ids with `marker_id` at the clip's place, and the clip's data."""
    prompt = {
        "prompt_token_ids": [*encoded.before_clip, marker_id, *encoded.after_clip],
        "multi_modal_data": {MODALITY: clip_fields(clip)},
    }
    name = clip_uuid(clip)
    if encoded.before_features is not None:
        # These ids become part of the item that vLLM caches under its name.
        prompt["mm_processor_kwargs"] = {BEFORE_FEATURES: encoded.before_features}
        name += f"-{encoded.before_features}"
    # The cache key, which covers everything the arrays depend on, so that vLLM need not hash them.
    return prompt | {"multi_modal_uuids": {MODALITY: [name]}}


def clip_fields(clip: Clip) -> dict[str, Any]:
    """The clip dict of serve_app/model/processing.py. The plugin fills in zeros for absent fields."""
    # A ready audio feature replaces the waveform.
    waveform = None if "audio_feature" in clip.features else clip.waveform
    fields = {"frame": clip.frame, "waveform": waveform, **clip.features}
    return {name: value for name, value in fields.items() if value is not None}


def clip_provenance(clip: Clip) -> dict[str, Any]:
    """The clip's part of an answer's provenance, as JSON values."""
    return {
        "audio_mode": clip.audio_mode,
        "clip_sha256": clip.sha256,
        "frame_time_s": clip.frame_time_s,
        "audio_span_s": clip.audio_span_s,
        "missing": list(clip.missing),
        "features": sorted(clip.features),
        "zeroed": _zeroed(clip_fields(clip)),
        "notes": list(clip.notes),
    }


def _zeroed(fields: dict[str, Any]) -> list[str]:
    given = {*fields, *(["waveform"] if "audio_feature" in fields else [])}
    return [name for name in CLIP_FIELDS if name not in given]


def clip_uuid(clip: Clip) -> str:
    """Key of a clip's tensors in vLLM's caches: hashes of its file and of what decoding made of it.

    The file and the frame's time would not suffice: two decoders may return different pixels for one time.
    """
    assert clip.content_sha256, "a clip without the digest of its content would be mixed up"
    return f"{clip.sha256}-{clip.content_sha256}"
