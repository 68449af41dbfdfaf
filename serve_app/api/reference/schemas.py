"""What the models of answers and errors are made with."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serve_app.api.clip_body import JSON
from serve_app.api.reference.examples import named


def ref(model: type[BaseModel]) -> dict[str, str]:
    """To where the document has its schema."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def answer_schema(
    model: type[BaseModel], examples: dict[str, Any], others: dict[str, Any] | None = None
) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: status 200. FastAPI takes it for documentation alone and checks no answer.

    Args:
        examples: of JSON, by their names.
        others: content of other types.
    """
    content = {JSON: {"examples": named(examples)}, **(others or {})}
    return {200: {"description": "The answer.", "model": model, "content": content}}


class Body(BaseModel):
    """Base: nothing else is in it."""

    model_config = ConfigDict(extra="forbid")


def left_out(description: str) -> Any:
    """A field that is left out, not null, where it was not asked for."""
    return Field(default_factory=dict, description=description)
