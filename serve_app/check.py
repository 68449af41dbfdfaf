"""Checks a model directory against its manifest, and its tensors' names and shapes against its config."""

import json
from pathlib import Path

from serve_app.checkpoint import (
    ADAPTER,
    Checkpoint,
    compare_with_manifest,
    hash_files,
    read_image_size,
    read_manifest,
    read_tensor_header,
)
from serve_app.errors import CheckpointError
from serve_app.model.config import EmotionLlamaConfig
from serve_app.model.weights import adapter_shapes, tensor_shapes

FLOATS = frozenset({"F16", "BF16", "F32"})


def open_checkpoint(directory: Path) -> Checkpoint:
    """Check a model directory completely, reading every byte once.

    Raises:
        CheckpointError: names every file and every tensor at fault.
    """
    image_size = read_image_size(directory)
    hashes = hash_files(directory)
    problems = find_problems(directory, hashes)
    if problems:
        raise CheckpointError("; ".join(problems))
    directory = directory.resolve()
    has_adapter = any(Path(name).parts[0] == ADAPTER for name in hashes)
    manifest = read_manifest(directory)
    assert manifest is not None, "its absence is a problem that was found above"
    return Checkpoint(
        directory, image_size, manifest["sha256"], directory / ADAPTER if has_adapter else None
    )


def find_problems(directory: Path, hashes: dict[str, str]) -> list[str]:
    """Reasons why a directory with these file hashes cannot be used, by its manifest and its tensors."""
    problems = compare_with_manifest(directory, hashes)
    try:
        return problems + check_tensors(directory)
    except CheckpointError as error:
        return [*problems, error.message]


def check_tensors(directory: Path) -> list[str]:
    """Tensors that are missing, unknown, mis-shaped or in two files; empty for a complete checkpoint.

    Raises:
        CheckpointError: a file's header is damaged, or config.json describes no model.
    """
    expected = _expected_shapes(directory)
    found: dict[str, tuple[int, ...]] = {}
    problems = []
    for path in sorted(directory.glob("*.safetensors")):
        for name, entry in read_tensor_header(path).items():
            shape = entry.shape
            if entry.dtype not in FLOATS:
                problems.append(f"{name} in {path} is stored as {entry.dtype}, not as floats")
            if name in found:
                problems.append(f"{name} is in more than one file; again in {path}")
            elif name not in expected:
                problems.append(f"{name} {list(shape)} in {path} is no tensor of this model")
            elif shape != expected[name]:
                problems.append(
                    f"{name} in {path} has the shape {list(shape)}; needed is {list(expected[name])}"
                )
            found[name] = shape
    problems += [
        f"{name} {list(shape)} is missing in {directory}"
        for name, shape in expected.items()
        if name not in found
    ]
    return problems + check_adapter(directory / ADAPTER, expected)


def check_adapter(directory: Path, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """The same for the LoRA adapter of a checkpoint that was converted without merging it.

    Args:
        shapes: shapes of the checkpoint's own tensors.
    """
    if not directory.is_dir() or not any(directory.iterdir()):
        return []
    path = directory / "adapter_model.safetensors"
    try:
        config = json.loads((directory / "adapter_config.json").read_text())
        rank, targets = int(config["r"]), frozenset(config["target_modules"])
        found = {name: entry.shape for name, entry in read_tensor_header(path).items()}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{directory} holds no usable adapter: {error!r}") from error
    expected = adapter_shapes(shapes, rank, targets)
    return [
        f"{name} in {path} has the shape {found.get(name)}; needed is {expected.get(name)}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]


def _expected_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    try:
        return tensor_shapes(EmotionLlamaConfig.from_pretrained(directory))
    except Exception as error:  # transformers' checks raise errors without a common base class
        raise CheckpointError(f"{directory / 'config.json'} describes no model: {error}") from error
