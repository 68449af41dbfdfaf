"""Reports what became of every tensor, as text: layers with the same fate share a line."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from serve_app.convert.plan import Fate

LAYER = re.compile(r"(?<=\.)\d+(?=\.)")


def fate_lines(fates: Iterable[Fate]) -> Iterator[str]:
    """Lines grouped by file: verdict, name with its range of layers, shape, and where it goes or why not."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for fate in fates:
        name, note = LAYER.sub("*", fate.tensor, 1), LAYER.sub("*", fate.note, 1)
        shape = str(list(fate.shape)) if fate.shape else ""
        layer = LAYER.search(fate.tensor)
        groups[fate.file, fate.verdict, name, shape, note].append(layer[0] if layer else "")
    last_file = None
    for (file, verdict, name, shape, note), layers in sorted(groups.items(), key=_order):
        if file != last_file:
            yield f"\n{file}"
            last_file = file
        name = name.replace("*", _range(layers))
        yield f"  {verdict:7}  {name}  {shape}  {'-> ' if verdict == 'used' else ''}{note}"


def origin_lines(manifest: dict[str, Any] | None) -> Iterator[str]:
    """The report of the conversion that a manifest describes."""
    if manifest is None or "tensors" not in manifest:
        yield "the directory does not say what it was made from"
        return
    try:
        rows = manifest["tensors"]
        fates = [
            Fate(file, name, tuple(shape), verdict, note)
            for file, name, shape, verdict, note in rows
        ]
        yield from (*fate_lines(fates), "", *summary_lines(fates, manifest))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        yield f"the manifest's account of the conversion cannot be read: {error!r}"


def summary_lines(fates: Iterable[Fate], about: dict[str, Any]) -> Iterator[str]:
    counts: dict[str, int] = defaultdict(int)
    for fate in fates:
        counts[fate.verdict] += 1
    yield ", ".join(
        f"{counts[verdict]} tensors {verdict}" for verdict in ("used", "ignored", "missing")
    )
    for key in ("dtype", "lora", "vision", "role"):
        yield f"{key}: {about[key]}"
    yield "inputs (sha256):"
    for path, digest in about["inputs"].items():
        yield f"  {digest}  {path}"
    yield from _interchangeable(fates)


def _interchangeable(fates: Iterable[Fate]) -> Iterator[str]:
    """Notes which projections could be swapped in the source unnoticed: only a trusted hash could tell."""
    by_shape: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for fate in fates:
        if fate.verdict == "used" and fate.note.startswith("projectors.") and len(fate.shape) == 2:
            by_shape[fate.shape].append(fate.tensor)
    for shape, names in by_shape.items():
        if len(names) > 1:
            yield (
                f"note: {', '.join(names)} share the shape {list(shape)}: if two of them were swapped, no "
                "check of names and shapes could tell; compare the sha256 with a trusted one (--sha256)"
            )


def _order(item: tuple[tuple[str, ...], list[str]]) -> tuple[str, ...]:
    file, verdict, name, *_ = item[0]
    return (str(Path(file).parent), file, {"missing": "0", "used": "1"}.get(verdict, "2"), name)


def _range(layers: list[str]) -> str:
    numbers = sorted(int(layer) for layer in layers if layer)
    if not numbers:
        return "*"
    if numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 1:
        return f"{{{numbers[0]}..{numbers[-1]}}}"
    return ",".join(map(str, numbers))
