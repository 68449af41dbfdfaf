"""Names that the plugin and its callers share. Importing them costs nothing."""

MODALITY = "video"
"""The modality of a clip in vLLM. One of its built-in names: its OpenAI server accepts no others."""

CLIP_MARKER = "<VideoHere>"
"""The clip marker: stands for the clip in a text prompt."""

BEFORE_FEATURES = "ids_before_features"
"""Key in `mm_processor_kwargs`: token ids that come before the clip's last four positions (processing.py)."""

REPETITION_PENALTY = "generated_repetition_penalty"
"""Key in `SamplingParams.extra_args`: the original's penalty; absent or 1: none (repetition_penalty.py)."""
