"""Token ids and text as the original's slow LlamaTokenizer gives them, under both published transformers.

Restates transformers 4.30.0 and 4.35.0 (with `legacy: false`) on sentencepiece; loads neither.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_pb2

Version = Literal["4.30.0", "4.35.0"]

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
# The original only sets an attribute: text is not split at the pad token, yet decode() drops it.
PAD = "$$"
SPACE = "▁"  # U+2581, as sentencepiece writes a space


class SlowTokenizer:
    """`encode` adds no BOS of its own; `<s>`, `</s>` and `<unk>` in a text become ids 1, 2 and 0."""

    def __init__(self, model_file: Path, version: Version) -> None:
        proto = model_pb2.ModelProto.FromString(model_file.read_bytes())
        self._legacy = version == "4.30.0"
        if not self._legacy:  # 4.35 puts the prefix before the whole text only, by itself
            proto.normalizer_spec.add_dummy_prefix = False
        self._model = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
        self._num_unk_pieces = len(self._model.encode(UNK, out_type=str))
        self.pad_id = self._model.piece_to_id(PAD)  # 0, that of <unk>, where there is no such piece

    def encode(self, text: str) -> list[int]:
        if self._legacy or not text:
            tokens = list(self._tokens(text))
        else:
            tokens = list(self._tokens(SPACE + text.replace(SPACE, " ")))
            if tokens[:1] == [SPACE] and tokens[1:2] in ([UNK], [BOS], [EOS], [PAD]):
                del tokens[0]
        return [self._model.piece_to_id(token) for token in tokens]

    def _tokens(self, text: str) -> Iterator[str]:
        for part in re.split(f"({UNK}|{BOS}|{EOS})", text):
            if part in (UNK, BOS, EOS):
                yield part
            elif part:
                yield from self._pieces(part)

    def _pieces(self, text: str) -> list[str]:
        pieces: list[str]
        if self._legacy or not text.startswith((SPACE, " ")):
            pieces = self._model.encode(text, out_type=str)
            return pieces
        # 4.35 hides the leading space behind a written-out "<unk>", whose pieces it drops again.
        pieces = self._model.encode(UNK + text, out_type=str)
        return pieces[self._num_unk_pieces :]

    def decode(self, ids: Sequence[int]) -> str:
        """As decode(skip_special_tokens=True)."""
        special = {0, 1, 2, self.pad_id}
        pieces = [self._model.id_to_piece(token) for token in ids if token not in special]
        if pieces and not self._legacy:  # its model no longer drops the prefix
            pieces[0] = pieces[0].removeprefix(SPACE)
        text: str = self._model.decode(pieces)
        return text
