"""Helpers for the schemas of answers and errors."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serve_app.api.clip_body import JSON
from serve_app.api.reference.examples import named


def ref(model: type[BaseModel]) -> dict[str, str]:
    """A reference to this model's schema in the document."""
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def answer_schema(
    model: type[BaseModel], examples: dict[str, Any], others: dict[str, Any] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Status 200 for a route's `responses`. It documents the answer; FastAPI does not check answers by it.

    Args:
        examples: example answers in JSON, by name.
        others: content of other media types.
    """
    content = {JSON: {"examples": named(examples)}, **(others or {})}
    return {200: {"description": "The answer.", "model": model, "content": content}}


class Body(BaseModel):
    """Base class: a body has no other fields."""

    model_config = ConfigDict(extra="forbid")


def left_out(description: str) -> Any:
    """A field that is absent, not null, where it was not asked for."""
    return Field(default_factory=dict, description=description)
