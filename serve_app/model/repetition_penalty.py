"""The original's repetition penalty: over BOS and what was generated, never over the prompt.

vLLM's own `repetition_penalty` counts the prompt too, and with it the labels that a question lists. The
original generates from embeddings, so its penalty sees no prompt ids; transformers starts it with BOS alone.

A vLLM V1 logits processor: it runs before temperature, top-k and top-p, as in transformers.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from serve_app.model.arguments import REPETITION_PENALTY

if TYPE_CHECKING:
    from vllm.config import VllmConfig


class GeneratedRepetitionPenalty(LogitsProcessor):
    """One gather and one scatter for the whole batch, whatever its size."""

    def __init__(
        self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool
    ) -> None:
        self._device = device
        self._bos_id: int = vllm_config.model_config.hf_config.text_config.bos_token_id
        # By row of the batch: the penalty, and vLLM's own growing list of generated ids.
        self._requests: dict[int, tuple[float, Sequence[int]]] = {}

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        penalty = _penalty(sampling_params)
        if not penalty > 0:
            raise ValueError(f"{REPETITION_PENALTY} is {penalty}; it must be above 0")

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._requests, batch_update, self._new_request)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """(num_rows, vocab_size), changed in place."""
        if not self._requests:
            return logits
        rows: list[int] = []
        columns: list[int] = []
        penalties: list[float] = []
        for row, (penalty, generated_ids) in self._requests.items():
            seen = {self._bos_id, *generated_ids}
            rows += [row] * len(seen)
            columns += seen
            penalties += [penalty] * len(seen)
        where = torch.tensor([rows, columns], device=self._device)
        factor = torch.tensor(penalties, dtype=logits.dtype, device=self._device)
        values = logits[where[0], where[1]]
        logits[where[0], where[1]] = torch.where(values > 0, values / factor, values * factor)
        return logits

    @staticmethod
    def _new_request(
        params: SamplingParams, _prompt_ids: list[int] | None, generated_ids: list[int]
    ) -> tuple[float, Sequence[int]] | None:
        penalty = _penalty(params)
        return None if penalty == 1 else (penalty, generated_ids)


def _penalty(params: SamplingParams) -> float:
    return float((params.extra_args or {}).get(REPETITION_PENALTY, 1))
