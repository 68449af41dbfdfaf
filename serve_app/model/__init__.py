"""Emotion-LLaMA as an out-of-tree vLLM model: installing the package is all vLLM needs to serve it.

This package imports nothing else of ours and works under plain vLLM:

    LLM(model=DIR).generate({"prompt_token_ids": [...], "multi_modal_data": {"video": clip}})

where `clip` is the dict described in `processing.py`.
"""

ARCHITECTURE = "EmotionLlamaForConditionalGeneration"


def register() -> None:
    """Entry point of `vllm.general_plugins`; vLLM calls it in every process, sometimes twice."""
    from transformers import AutoConfig
    from vllm import ModelRegistry

    from serve_app.model.config import EmotionLlamaConfig

    AutoConfig.register(EmotionLlamaConfig.model_type, EmotionLlamaConfig, exist_ok=True)
    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        # A string keeps the import of torch modules lazy.
        ModelRegistry.register_model(ARCHITECTURE, f"{__package__}.model:{ARCHITECTURE}")
