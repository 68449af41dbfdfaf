"""Tells an engine that hangs from one that is busy: vLLM itself only notices one that has ended."""

from serve_app.errors import EngineDeadError

# vLLM's histogram has an entry for each step of the engine.
NUM_STEPS = "vllm:iteration_tokens_total_count"


class StallWatch:
    """Remembers since when an engine that has requests has made no step."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._num_steps = -1.0
        self._since_s = 0.0

    def check(self, num_unfinished: int, num_steps: float, now_s: float) -> None:
        """Looks at the engine; called every few seconds.

        Args:
            num_unfinished: requests that the engine has.
            num_steps: that it has made so far.
            now_s: by a clock that never goes back.

        Raises:
            EngineDeadError: nothing has moved for longer than the limit.
        """
        if num_unfinished == 0 or num_steps != self._num_steps:
            self._num_steps, self._since_s = num_steps, now_s
        elif now_s - self._since_s > self._limit_s:
            raise EngineDeadError(
                f"the engine has {num_unfinished} requests and has made no step for "
                f"{now_s - self._since_s:.0f} s; the limit is {self._limit_s:g} s (engine.stall_timeout_s)"
            )
