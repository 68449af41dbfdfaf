"""Every key of a document, and the document with that key misspelt."""

import copy
from typing import Any

Keys = tuple[Any, ...]  # the way to a mapping's key, through mappings and lists


def keys_of(node: Any, where: Keys = ()) -> list[Keys]:
    """Every key of every mapping below."""
    if isinstance(node, dict):
        return [
            way
            for key, value in node.items()
            for way in ((*where, key), *keys_of(value, (*where, key)))
        ]
    if isinstance(node, list):
        return [way for i, value in enumerate(node) for way in keys_of(value, (*where, i))]
    return []


def misspelt(document: Any, way: Keys) -> Any:
    """A copy in which that key has a letter too many."""
    changed = copy.deepcopy(document)
    node = changed
    for step in way[:-1]:
        node = node[step]
    node[f"{way[-1]}x"] = node.pop(way[-1])
    return changed
