"""Writes the tokenizer files that vLLM reads, from the sentencepiece file with which we encode."""

from pathlib import Path

from transformers import AddedToken, LlamaTokenizer

from serve_app.model.arguments import CLIP_MARKER


def write_tokenizer_files(directory: Path) -> None:
    """Writes vLLM's form of tokenizer.model beside it; the clip marker is the first id after its pieces."""
    tokenizer = LlamaTokenizer.from_pretrained(
        directory,
        extra_special_tokens=[AddedToken(CLIP_MARKER, normalized=False, special=True)],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.save_pretrained(directory)
