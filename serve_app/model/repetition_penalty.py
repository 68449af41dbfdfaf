"""The original's repetition penalty: over BOS and the generated tokens, never over the prompt.

vLLM's own `repetition_penalty` counts the prompt too, and with it the labels that a question lists. The
original generates from embeddings, so its penalty sees no prompt ids; transformers starts it with BOS alone.

A vLLM V1 logits processor: it runs before temperature, top-k and top-p, as in transformers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import TYPE_CHECKING

import torch
from vllm import SamplingParams
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from serve_app.model.arguments import REPETITION_PENALTY

if TYPE_CHECKING:
    from vllm.config import VllmConfig

LIMITS = (0.01, 100.0)  # beyond these a logit could overflow


@dataclass(slots=True)
class _Request:
    """State of one row of the batch."""

    penalty: float
    generated_ids: Sequence[int]  # vLLM's own list, which it appends to
    slot: int | None = None  # row of the mask
    num_seen: int = 0  # generated ids that are in the mask


class GeneratedRepetitionPenalty(LogitsProcessor):
    """Keeps a mask of seen tokens per request, so that the cost of a step does not grow with the answers."""

    def __init__(
        self, vllm_config: "VllmConfig", device: torch.device, is_pin_memory: bool
    ) -> None:
        self._device = device
        text_config = vllm_config.model_config.hf_config.text_config
        self._bos_id: int = text_config.bos_token_id
        num_slots = vllm_config.scheduler_config.max_num_seqs
        self._seen = torch.zeros(num_slots, text_config.vocab_size, dtype=torch.bool, device=device)
        self._requests: dict[int, _Request] = {}  # by row of the batch

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        penalty = _penalty(sampling_params)
        low, high = LIMITS
        if not low <= penalty <= high:
            raise ValueError(f"{REPETITION_PENALTY} is {penalty}; it must be in {low} to {high}")

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._requests, batch_update, _new_request)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """(num_rows, vocab_size), changed in place."""
        if not self._requests:
            return logits
        self._take_in_new_tokens()
        rows = self._tensor(list(self._requests))
        seen = self._seen[self._tensor([request.slot for request in self._requests.values()])]
        penalty = torch.tensor(
            [[request.penalty] for request in self._requests.values()],
            dtype=logits.dtype,
            device=self._device,
        )
        values = logits[rows]
        penalised = torch.where(values > 0, values / penalty, values * penalty)
        logits[rows] = torch.where(seen, penalised, values)
        return logits

    def _take_in_new_tokens(self) -> None:
        taken = {request.slot for request in self._requests.values()}
        free = (slot for slot in range(len(self._seen)) if slot not in taken)
        slots: list[int] = []
        ids: list[int] = []
        for request in self._requests.values():
            if request.slot is None:
                request.slot = next(free)
                self._seen[request.slot] = False
                slots.append(request.slot)
                ids.append(self._bos_id)
            # Asynchronous scheduling puts -1 where a token is not known yet.
            unseen = islice(request.generated_ids, request.num_seen, None)
            new_ids = list(takewhile(lambda token: token >= 0, unseen))
            request.num_seen += len(new_ids)
            slots += [request.slot] * len(new_ids)
            ids += new_ids
        self._seen[self._tensor(slots), self._tensor(ids)] = True

    def _tensor(self, values: Sequence[int | None]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)


def _new_request(
    params: SamplingParams, _prompt_ids: list[int] | None, generated_ids: list[int]
) -> _Request | None:
    penalty = _penalty(params)
    return None if penalty == 1 else _Request(penalty, generated_ids)


def _penalty(params: SamplingParams) -> float:
    return float((params.extra_args or {}).get(REPETITION_PENALTY, 1))
