"""Validation by pydantic, with its findings as one sentence: for request bodies, serve.yaml and key files."""

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from serve_app.errors import InvalidRequestError

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], body: Any, strict: bool | None = None) -> Model:
    """Validate `body` as the model.

    Args:
        strict: reject a quoted number. None: the model's own setting.

    Raises:
        InvalidRequestError: names each field that is missing, unknown or out of range.
    """
    try:
        return model.model_validate(body, strict=strict)
    except ValidationError as error:
        raise InvalidRequestError(describe_problems(error.errors())) from error


def describe_problems(problems: Iterable[Any], under: str = "") -> str:
    """pydantic's findings as a sentence that names each field.

    Args:
        under: path of the fields' parent, such as applications.0.args.
    """
    return "; ".join(_describe(problem, under) for problem in problems)


def _describe(problem: dict[str, Any], under: str) -> str:
    parts = [*([under] if under else ()), *(str(part) for part in problem["loc"] if part != "body")]
    return f"{'.'.join(parts) or 'body'}: {problem['msg']}"
