"""A model directory against the architecture its config describes: tensor by tensor, by name and shape."""

from pathlib import Path

from transformers import PretrainedConfig

from serve_app.checkpoint import read_tensor_header
from serve_app.errors import CheckpointError
from serve_app.model.config import EmotionLlamaConfig
from serve_app.model.weights import tensor_shapes


def check_tensors(directory: Path) -> list[str]:
    """What is missing, left over, mis-shaped or in two files; empty for a complete checkpoint.

    Raises:
        CheckpointError: a file's header is damaged, or config.json describes no model.
    """
    expected = tensor_shapes(_config(directory))
    found: dict[str, tuple[int, ...]] = {}
    problems = []
    for path in sorted(directory.glob("*.safetensors")):
        for name, shape in read_tensor_header(path).items():
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
    return problems


def require_tensors(directory: Path) -> None:
    """Raises CheckpointError: names every tensor that `check_tensors` finds at fault."""
    problems = check_tensors(directory)
    if problems:
        raise CheckpointError("; ".join(problems))


def _config(directory: Path) -> PretrainedConfig:
    try:
        return EmotionLlamaConfig.from_pretrained(directory)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{directory / 'config.json'} describes no model: {error}") from error
