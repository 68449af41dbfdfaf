"""Turns vLLM's errors into ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from serve_app.errors import EngineDeadError, EngineError, InvalidRequestError


@contextmanager
def vllm_errors() -> Iterator[None]:
    """Re-raise vLLM's errors within the block as ours.

    Raises:
        InvalidRequestError: vLLM refused the request.
        EngineError: this request failed; EngineDeadError: the engine process is gone.
    """
    from vllm.exceptions import VLLMClientError
    from vllm.v1.engine.exceptions import EngineDeadError as VllmEngineDeadError
    from vllm.v1.engine.exceptions import EngineGenerateError

    try:
        yield
    except (VLLMClientError, ValueError) as error:
        raise InvalidRequestError(str(error)) from error
    except VllmEngineDeadError as error:
        raise EngineDeadError(str(error)) from error
    except EngineGenerateError as error:
        # Its own text is empty; the reason is in the cause.
        if isinstance(error.__cause__, ValueError):
            raise InvalidRequestError(str(error.__cause__)) from error
        raise EngineError(f"the engine failed: {error.__cause__!r}") from error
