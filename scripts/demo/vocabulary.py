"""Trains the demonstration's tokenizer: sentencepiece BPE with byte fallback, like LLaMA's."""

import io
from pathlib import Path

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from demo.conversation import corpus
from serve_app.demo.labels import LABELS

VOCAB_SIZE = 1536
CORPUS_EXERCISES = 3000


def write_tokenizer(path: Path, seed: int) -> None:
    """Raises AssertionError if a label is not a single token, which its log-probability needs."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(corpus(CORPUS_EXERCISES, seed)),
        model_writer=model,  # a model written to a file would contain the file's path
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        character_coverage=1.0,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    pieces = SentencePieceProcessor(model_file=str(path))
    split = [label for label in LABELS if len(pieces.encode(label)) != 1]
    assert not split, f"labels of more than one token: {split}"
