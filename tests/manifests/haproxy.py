"""cluster/haproxy.patch.yaml: a JSON patch (RFC 6902) that adds to rayservice.yaml."""

import copy
from typing import Annotated, Any, Literal

from manifests.kubernetes import EnvironmentVariable, Strict
from pydantic import Field, TypeAdapter


class Addition(Strict):
    op: Literal["add"]
    path: Annotated[str, Field(pattern=r"^(/\w+)+(/-)?$")]
    value: list[EnvironmentVariable] | EnvironmentVariable


def check_patch(patch: Any, target: dict[str, Any]) -> dict[str, Any]:
    """The target with the patch.

    Raises ValueError: a key is unknown, or a path leads nowhere, or to something that is there.
    """
    patched = copy.deepcopy(target)
    for each in TypeAdapter(list[Addition]).validate_python(patch):
        *way, last = each.path.split("/")[1:]
        node: Any = patched
        try:
            for step in way:
                node = node[int(step) if isinstance(node, list) else step]
        except (KeyError, IndexError) as error:
            raise ValueError(f"{each.path} leads nowhere: {error}") from error
        value = each.model_dump()["value"]
        if last == "-":
            node.append(value)
        elif last in node:
            raise ValueError(f"{each.path} would be replaced")
        else:
            node[last] = value
    return patched
