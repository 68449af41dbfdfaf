"""What a model directory says about itself, read without torch: the image size, and a hash of it all."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from serve_app.errors import CheckpointError

MODEL_TYPE = "emotion_llama"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model directory that looks usable."""

    directory: Path
    image_size: int  # pixels; height = width of the frame the model takes
    sha256: str  # over the names and contents of its files


def read_image_size(directory: Path) -> int:
    """Height and width of the frame, from config.json alone; weights must be there, but stay unread.

    Raises:
        CheckpointError: no such directory, no weights in it, or not an Emotion-LLaMA checkpoint.
    """
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    model_type = config.get("model_type")
    if model_type != MODEL_TYPE:
        raise CheckpointError(f"{path} has model_type {model_type!r}; expected {MODEL_TYPE!r}")
    if "image_size" not in config.get("vision_config", {}):
        raise CheckpointError(f"{path} lacks the key vision_config.image_size")
    if not any(directory.glob("*.safetensors")):
        raise CheckpointError(f"{directory} holds no .safetensors file")
    return int(config["vision_config"]["image_size"])


def read_checkpoint(directory: Path) -> Checkpoint:
    """Sizes and hash of a model directory. Reads every byte of it once.

    Raises:
        CheckpointError: no such directory, no weights in it, or not an Emotion-LLaMA checkpoint.
    """
    return Checkpoint(directory.resolve(), read_image_size(directory), hash_directory(directory))


def hash_directory(directory: Path) -> str:
    """sha256 over `<sha256 of the file>  <name>` lines in name order: `sha256sum * | sha256sum`."""
    lines = []
    for path in sorted(directory.iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()
