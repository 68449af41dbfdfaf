"""Names that the plugin and its callers share. Importing them costs nothing."""

MODALITY = "video"
"""Of a clip. A built-in name: vLLM's OpenAI layer knows no others."""

CLIP_MARKER = "<VideoHere>"
"""Where a clip goes in a text prompt."""

BEFORE_FEATURES = "ids_before_features"
"""In `mm_processor_kwargs`: token ids that come before the clip's last four positions (processing.py)."""

REPETITION_PENALTY = "generated_repetition_penalty"
"""In `SamplingParams.extra_args`: the original's penalty; absent or 1 is none (repetition_penalty.py)."""
