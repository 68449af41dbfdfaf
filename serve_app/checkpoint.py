"""Reads a model directory without torch: image size, manifest, file hashes, tensor shapes."""

import hashlib
import json
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serve_app.errors import CheckpointError

MODEL_TYPE = "emotion_llama"
TOKENIZER = "tokenizer.model"  # sentencepiece's; vLLM reads tokenizer.json, which is made of it
MANIFEST = "manifest.json"  # written last: the hash of every other file, and where each came from
# Folder of the LoRA adapter of a checkpoint that was converted without merging it.
ADAPTER = "adapter"
LOADED_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".json", ".model", ".py"})
NUM_HASH_THREADS = 4  # hashing one file after the other is slower than a disk


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A usable model directory, as `check.open_checkpoint` verified it."""

    directory: Path
    image_size: int  # pixels; height = width of the frame the model takes
    sha256: str  # over the names and contents of the files in its manifest
    adapter: Path | None  # LoRA adapter to load with it, if any


def read_image_size(directory: Path) -> int:
    """Height and width of the frame, from config.json alone. Weights and tokenizer need only exist.

    Raises:
        CheckpointError: no such directory, no weights in it, or not an Emotion-LLaMA checkpoint.
    """
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path} does not exist") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type != MODEL_TYPE:
        raise CheckpointError(f"{path} has model_type {model_type!r}; expected {MODEL_TYPE!r}")
    vision = config.get("vision_config")
    image_size = vision.get("image_size") if isinstance(vision, dict) else None
    if type(image_size) is not int:
        raise CheckpointError(f"{path} has vision_config.image_size {image_size!r}, not a number")
    if not any(directory.glob("*.safetensors")):
        raise CheckpointError(f"{directory} holds no .safetensors file")
    if not (directory / TOKENIZER).is_file():
        raise CheckpointError(f"{directory} holds no {TOKENIZER}")
    return image_size


def hash_files(directory: Path) -> dict[str, str]:
    """sha256 of every file below, by its relative name; the manifest itself is left out.

    Raises:
        CheckpointError: something there is neither a file nor a folder, or cannot be read.
    """
    paths = [path for path in sorted(directory.rglob("*")) if not path.is_dir()]
    names = [str(path.relative_to(directory)) for path in paths]
    with ThreadPoolExecutor(NUM_HASH_THREADS) as threads:
        hashes = dict(zip(names, threads.map(hash_file, paths), strict=True))
    hashes.pop(MANIFEST, None)
    return hashes


def hash_file(path: Path) -> str:
    """Raises CheckpointError: the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def combine_hashes(hashes: dict[str, str]) -> str:
    """One hash of all files: the sha256 of `sha256sum`'s lines in name order."""
    lines = (f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_manifest(directory: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Write and return the manifest. Call it last: a directory without one counts as unfinished."""
    hashes = hash_files(directory)
    manifest = {"sha256": combine_hashes(hashes), "files": hashes} | about
    (directory / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """The manifest; None where there is none: the directory is unfinished, or other tools wrote it.

    Raises:
        CheckpointError: the manifest is damaged.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise CheckpointError(f"{path} is damaged: it lists no files")
    return manifest


def compare_with_manifest(directory: Path, hashes: dict[str, str]) -> list[str]:
    """Files that are missing, changed, or unexpected."""
    manifest = read_manifest(directory)
    if manifest is None:
        return [
            f"{directory / MANIFEST} is missing: the directory was not finished, or other tools wrote "
            "it (`emotion-llama check --write-manifest` vouches for it as it is)"
        ]
    listed = manifest["files"]
    problems = []
    if manifest.get("sha256") != combine_hashes(listed):
        problems.append(f"{directory / MANIFEST} has changed: its sha256 is not that of its files")
    problems += [f"{directory / name} is missing" for name in listed if name not in hashes]
    problems += [
        f"{directory / name} has changed: its sha256 is {hashes[name]}, the manifest's {expected}"
        for name, expected in listed.items()
        if hashes.get(name, expected) != expected
    ]
    # Unlisted files matter only if transformers or vLLM would load them; a README does no harm.
    problems += [
        f"{directory / name} is not in {MANIFEST}"
        for name in hashes
        if name not in listed and Path(name).suffix in LOADED_SUFFIXES
    ]
    return problems


@dataclass(frozen=True, slots=True)
class HeaderEntry:
    """Shape and type of a tensor, as its safetensors file gives them."""

    shape: tuple[int, ...]
    dtype: str  # "F16", "BF16", "F32", ...


def read_tensor_header(path: Path) -> dict[str, HeaderEntry]:
    """Names, shapes and types of a safetensors file, without reading its tensors.

    Raises:
        CheckpointError: names the first tensor that lies beyond the end of a truncated file.
    """
    try:
        num_bytes = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else num_bytes
        if 8 + length > num_bytes:
            raise CheckpointError(f"{path} is truncated in its header, or is no safetensors file")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            header.pop("__metadata__", None)
            ends = sorted((8 + length + e["data_offsets"][1], name) for name, e in header.items())
            entries = {
                name: HeaderEntry(tuple(map(int, entry["shape"])), str(entry["dtype"]))
                for name, entry in header.items()
            }
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} has a damaged header: {error!r}") from error
    for end, name in ends:
        if end > num_bytes:
            raise CheckpointError(
                f"{path} is truncated: {name} ends at byte {end}, the file at {num_bytes}"
            )
    return entries
