"""LLaMA's tokenizer as each of the two published environments of the original encodes and decodes.

The environment file pins transformers 4.30.0, the API's requirements 4.35.0. They differ after a special
token, and no option of current transformers reproduces either (docs/fidelity.md), so both are reimplemented
here.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from serve_app.checkpoint import TOKENIZER
from serve_app.types import Tokenization

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
PAD = "$$"  # the original's pad token; an id only where the vocabulary has such a piece
SPACE = "▁"  # how sentencepiece writes a space

_SPECIAL = re.compile(f"({UNK}|{BOS}|{EOS})")


def split_special(text: str) -> list[str]:
    """Plain text and special tokens alternately, with plain text (perhaps empty) at both ends."""
    return _SPECIAL.split(text)


class Tokenizer:
    """The sentencepiece model of a model directory."""

    def __init__(self, directory: Path) -> None:
        model = (directory / TOKENIZER).read_bytes()
        self._pieces = SentencePieceProcessor(model_proto=model)
        self._bare = SentencePieceProcessor(model_proto=_without_dummy_prefix(model))
        self._special_ids = {name: self._pieces.piece_to_id(name) for name in (UNK, BOS, EOS)}
        self._num_unk_pieces = len(self._bare.encode(UNK))
        # Unknown pieces get the id of <unk>, as in the original where the vocabulary lacks `$$`.
        self._skipped_ids = {*self._special_ids.values(), self._pieces.piece_to_id(PAD)}

    @property
    def bos_id(self) -> int:
        return self._special_ids[BOS]

    @property
    def eos_id(self) -> int:
        return self._special_ids[EOS]

    @property
    def num_pieces(self) -> int:
        """Size of the vocabulary."""
        return int(self._pieces.piece_size())

    def encode(self, segment: Sequence[str], tokenization: Tokenization) -> list[int]:
        """Token ids of one segment of a prompt, without a BOS in front.

        Args:
            segment: plain text and special tokens alternately, as from `split_special`. Special tokens
                within plain text are encoded as text.
        """
        if tokenization == "4.30":
            return self._encode(segment, self._encode_prefixed)
        return self._encode_435(segment)

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens and without the pad piece; invalid bytes become U+FFFD."""
        return str(self._pieces.decode([i for i in ids if i not in self._skipped_ids]))

    def _encode_435(self, segment: Sequence[str]) -> list[int]:
        """One prefix for the segment as a whole; none after a special token."""
        if not any(segment):
            return []
        texts = [text.replace(SPACE, " ") for text in segment]
        ids = self._encode([SPACE + texts[0], *texts[1:]], self._encode_bare)
        prefix_alone = ids[0] == self._bare.piece_to_id(SPACE)
        return ids[1:] if prefix_alone and ids[1:2] and ids[1] in self._skipped_ids else ids

    def _encode(self, segment: Sequence[str], encode_text: Callable[[str], list[int]]) -> list[int]:
        ids: list[int] = []
        for index, piece in enumerate(segment):
            if index % 2:
                ids.append(self._special_ids[piece])
            elif piece:
                ids += encode_text(piece)
        return ids

    def _encode_prefixed(self, text: str) -> list[int]:
        return list(self._pieces.encode(text))

    def _encode_bare(self, text: str) -> list[int]:
        if not text.startswith((SPACE, " ")):
            return list(self._bare.encode(text))
        # sentencepiece would drop a leading space; after another piece it keeps it.
        return list(self._bare.encode(UNK + text))[self._num_unk_pieces :]


def _without_dummy_prefix(model: bytes) -> bytes:
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    proto.normalizer_spec.add_dummy_prefix = False
    return bytes(proto.SerializeToString())
