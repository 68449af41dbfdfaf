"""Names of what the plugin takes with a request besides the clip. Importing them costs nothing."""

BEFORE_FEATURES = "ids_before_features"
"""In `mm_processor_kwargs`: token ids that come before the clip's last four positions (processing.py)."""

REPETITION_PENALTY = "generated_repetition_penalty"
"""In `SamplingParams.extra_args`: the original's penalty; absent or 1 is none (repetition_penalty.py)."""
