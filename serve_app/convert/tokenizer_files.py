"""The tokenizer files that vLLM reads, made of sentencepiece's file, which we encode with."""

from pathlib import Path

from transformers import AddedToken, LlamaTokenizer

from serve_app.model.arguments import CLIP_MARKER


def write_tokenizer_files(directory: Path) -> None:
    """Beside tokenizer.model: the same for vLLM, with the clip marker as the first id past its pieces."""
    tokenizer = LlamaTokenizer.from_pretrained(
        directory,
        extra_special_tokens=[AddedToken(CLIP_MARKER, normalized=False, special=True)],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(directory)
