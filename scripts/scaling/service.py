"""Time an engine needs per request, as a line fitted to two numbers of scripts/bench.py --only bare.

A vLLM engine with n requests in its batch answers one of them in

    time_s(n) = fixed_s + n * per_request_s

`fixed_s` is the time that the engine's steps take however few requests share them; `per_request_s` is what
each request adds for all of them: its encoders, its prefill, its share of every step. The engine answers
n / time_s(n) requests a second.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ServiceTimes:
    """How long one replica takes for an average request."""

    fixed_s: float
    per_request_s: float
    source: str

    @classmethod
    def from_bench(
        cls, latency_1_s: float, rate: float, num_clients: int, source: str
    ) -> "ServiceTimes":
        """Fits the line to the latency of one client and the rate of `num_clients` at a time.

        Raises:
            ValueError: no such line exists: the many clients are faster than one alone.
        """
        per_request_s = (num_clients / rate - latency_1_s) / (num_clients - 1)
        fixed_s = latency_1_s - per_request_s
        if per_request_s <= 0 or fixed_s < 0:
            raise ValueError(
                f"{latency_1_s} s alone and {rate} requests/s of {num_clients} clients do not fit an engine"
            )
        return cls(fixed_s, per_request_s, source)

    @property
    def half_rate_seqs(self) -> float:
        """Requests in the batch at which an engine reaches half of its maximum rate."""
        return self.fixed_s / self.per_request_s

    def time_s(self, num_running: Any) -> Any:
        """Time of a request while `num_running` (a number or an array) are in the batch."""
        return self.fixed_s + num_running * self.per_request_s

    def max_rate(self, num_running: Any) -> Any:
        """Requests per second of one replica that keeps `num_running` requests running."""
        return num_running / self.time_s(num_running)


PROFILES = {
    # docs/performance.md, `make bench`, the bare engine: 129 ms p50 at 1 client, of which 12 decode, and
    # 24.63 requests/s at 32 clients. A tiny checkpoint on two cores: measured, but nothing like a GPU.
    "tiny-on-cpu": ServiceTimes.from_bench(0.117, 24.63, 32, "measured: make bench, 2 CPU cores"),
    # NOT MEASURED. No GPU has run this product here. Round numbers, to have something to compute with: 60
    # tokens at 20 ms a step, and 50 ms for each clip's encoders, prefill and share of the steps.
    "assumed-gpu": ServiceTimes(1.2, 0.05, "ASSUMED, not measured: replace it by your own"),
}
