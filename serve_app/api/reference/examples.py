"""Examples for the OpenAPI document. Tests send the requests and check the answers against their schemas."""

from typing import Any

CLIP = "/srv/clips/a.mp4"
EMOTION = "[emotion] What is the emotion expressed in this video?"
REASON = "[reason] What are the facial expressions and vocal tone used in the video?"
PICTURE = (
    "data:image/png;base64,"  # 128 x 128, white
    "iVBORw0KGgoAAAANSUhEUgAAAIAAAACAAQAAAADrRVxmAAAAIUlEQVR42mP8z4AKmBhGBUYFRgVGBUYFRgVGBUYFaCoAAL"
    "+1Af9+ZDnTAAAAAElFTkSuQmCC"
)
VOICE = {
    "energy_rms": 0.08,
    "energy_db": -21.9,
    "pitch_median_hz": 212.0,
    "pitch_range_hz": 35.5,
    "voiced_share": 0.62,
    "num_pauses": 1,
    "pause_share": 0.14,
}
USAGE = {"prompt_tokens": 351, "completion_tokens": 3, "cached_tokens": 0}
TIMINGS_MS = {"decode": 41.0, "queue": 3.1, "first_token": 182.4, "total": 240.2}
PROVENANCE = {"parity": "default", "prompt_layout": "chat", "missing": [], "zeroed": []}

PROCESS_VIDEO_REQUESTS: dict[str, Any] = {
    "the original's": {"video_path": CLIP, "question": EMOTION},
    "with options": {
        "video_path": CLIP,
        "question": REASON,
        "frame": "sharpest",
        "voice": True,
        "temperature": 0,
        "max_tokens": 100,
        "details": True,
    },
    "a picture that comes along": {"video_path": PICTURE, "question": EMOTION, "frame": 0.0},
}
PROCESS_VIDEO_ANSWERS: dict[str, Any] = {
    "the original's": {"response": "worried"},
    "with options": {
        "response": "worried",
        "voice": VOICE,
        "details": {
            "text": "worried",
            "token_ids": [15982, 1255, 2],
            "prompt_token_ids": [1, 518],
            "finish_reason": "stop",
            "usage": USAGE,
            "timings_ms": TIMINGS_MS,
            "provenance": PROVENANCE,
            "voice": VOICE,
            "scores": [],
        },
    },
}
PROCESS_VIDEO_FIELDS: dict[str, Any] = {"question": EMOTION}

PREDICT_REQUESTS: dict[str, Any] = {"a clip and a question": {"data": [CLIP, EMOTION]}}
PREDICT_ANSWERS: dict[str, Any] = {
    "the original's": {
        "data": ["worried"],
        "is_generating": False,
        "duration": 0.24,
        "average_duration": 0.31,
        "render_config": None,
        "changed_state_ids": [],
    }
}

STATUS_ANSWERS: dict[str, Any] = {
    "ready": {
        "status": "ready",
        "uptime_s": 86_400.5,
        "requests": {"in_flight": 3, "oldest_s": 0.412, "limit": 128},
        "deployments": {
            "Ingress": {"status": "HEALTHY", "replicas": {"RUNNING": 1}},
            "Preprocessor": {"status": "HEALTHY", "replicas": {"RUNNING": 2}},
            "Generator": {"status": "UPDATING", "replicas": {"RUNNING": 1, "STARTING": 1}},
        },
        "model": {"name": "emotion-llama", "sha256": "9f" * 32},
        "versions": {
            "emotion_llama": "0.1.0",
            "ray": "2.60.0",
            "vllm": "0.32.0",
            "torch": "2.13.0",
        },
        "settings": {
            "parity": "default",
            "layout": "chat",
            "tokenization": "4.30",
            "legacy_errors": "status",
            "dtype": "auto",
            "max_model_len": 2048,
            "max_num_seqs": 64,
            "request_timeout_s": 28.0,
            "keeps_answers": False,
        },
    }
}

EMOTIONS_REQUESTS: dict[str, Any] = {
    "nine labels": {"video_path": CLIP},
    "labels of one's own": {
        "video_path": CLIP,
        "labels": ["calm", "tense"],
        "transcript": "I see.",
        "explain": True,
    },
}
EMOTIONS_ANSWERS: dict[str, Any] = {
    "labels of one's own": {
        "emotion": "tense",
        "confidence": 0.81,
        "label_mass": 0.02,
        "probabilities": [
            {"label": "calm", "probability": 0.19},
            {"label": "tense", "probability": 0.81},
        ],
        "explanation": "The person shows raised inner brows; the emotion is worried.",
        "usage": USAGE,
        "timings_ms": {"decode": 41.0, "total": 198.0},
        "provenance": PROVENANCE,
    }
}
EMOTIONS_FIELDS: dict[str, Any] = {"labels": ["calm", "tense"]}

MESSAGES: Any = [
    {
        "role": "user",
        "content": [
            {"type": "video_url", "video_url": {"url": CLIP}},
            {"type": "text", "text": EMOTION},
        ],
    }
]
CHAT_REQUESTS: dict[str, Any] = {
    "at once": {"model": "emotion-llama", "messages": MESSAGES, "temperature": 0},
    "as it grows": {
        "model": "emotion-llama",
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "with log-probabilities": {
        "model": "emotion-llama",
        "messages": MESSAGES,
        "logprobs": True,
        "top_logprobs": 2,
    },
    "one of some words": {
        "model": "emotion-llama",
        "messages": MESSAGES,
        "structured_outputs": {"choice": ["happy", "worried"]},
    },
    "the second question about a clip": {
        "model": "emotion-llama",
        "messages": [
            *MESSAGES,
            {"role": "assistant", "content": "worried"},
            {"role": "user", "content": REASON},
        ],
    },
}
HEAD = {"id": "chatcmpl-6f0c", "created": 1760000000, "model": "emotion-llama"}
COUNTS = {
    "prompt_tokens": 351,
    "completion_tokens": 3,
    "total_tokens": 354,
    "prompt_tokens_details": {"cached_tokens": 0},
}
CHAT_ANSWERS: dict[str, Any] = {
    "at once": {
        **HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "worried", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": COUNTS,
    }
}
_CHUNK = '"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": '
CHAT_STREAM = (
    f'data: {{"id": "chatcmpl-6f0c", "created": 1760000000, "model": "emotion-llama", {_CHUNK}'
    '{"role": "assistant", "content": ""}, "logprobs": null, "finish_reason": null}]}\n\n'
    f'data: {{"id": "chatcmpl-6f0c", "created": 1760000000, "model": "emotion-llama", {_CHUNK}'
    '{"content": "worried"}, "logprobs": null, "finish_reason": "stop"}]}\n\n'
    "data: [DONE]\n\n"
)
MODELS_ANSWERS: dict[str, Any] = {
    "one model": {
        "object": "list",
        "data": [
            {
                "id": "emotion-llama",
                "object": "model",
                "created": 1760000000,
                "owned_by": "emotion-llama",
                "max_model_len": 2048,
            }
        ],
    }
}


def named(values: dict[str, Any]) -> dict[str, Any]:
    """The values in the form of OpenAPI's `examples`."""
    return {name: {"value": value} for name, value in values.items()}
