"""Reads the users' tensor files one tensor at a time; pickled code is never run."""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open

from serve_app.checkpoint import read_tensor_header
from serve_app.errors import CheckpointError

WRAPPERS = ("model", "state_dict", "module")  # keys under which training scripts save the tensors
SHARD_PATTERNS = ("*.safetensors", "pytorch_model*.bin")  # the first kind found is used
FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
SAFETENSORS_FLOATS = frozenset({"F16", "BF16", "F32", "F64"})


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What is known about a tensor before it is read."""

    shape: tuple[int, ...]
    kind: str  # the type of its numbers, as the file calls it
    is_float: bool  # whether it has dense floating-point numbers; others cannot be converted


class TensorFile(Protocol):
    """One file of named tensors."""

    path: Path
    infos: Mapping[str, TensorInfo]
    leftovers: Mapping[str, str]  # what else the file holds, and why it is not needed

    def read(self, name: str) -> torch.Tensor:
        """Reads a tensor, on the CPU and in the file's own precision."""

    def release(self) -> None:
        """Releases the memory of what was read. `read` can still be called."""


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """A tensor in one of the downloads."""

    file: TensorFile
    name: str

    @property
    def info(self) -> TensorInfo:
        return self.file.infos[self.name]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.info.shape

    def read(self) -> torch.Tensor:
        return self.file.read(self.name)

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)} in {self.file.path}"


@dataclass(frozen=True, slots=True)
class Source:
    """The tensors of one download, in all of its files."""

    files: tuple[TensorFile, ...]
    tensors: Mapping[str, SourceTensor] = field(init=False)

    def __post_init__(self) -> None:
        tensors: dict[str, SourceTensor] = {}
        for file in self.files:
            for name in file.infos:
                if name in tensors:
                    raise CheckpointError(
                        f"{name} is both in {tensors[name].file.path} and in {file.path}"
                    )
                tensors[name] = SourceTensor(file, name)
        object.__setattr__(self, "tensors", tensors)

    def where(self) -> str:
        """The file or folder in which a missing tensor should have been."""
        paths = [file.path for file in self.files]
        return str(paths[0] if len(paths) == 1 else paths[0].parent)

    def release(self) -> None:
        for file in self.files:
            file.release()


def open_file(path: Path) -> Source:
    """Opens a single file.

    Raises:
        CheckpointError: it does not exist, is damaged, or is a pickle that holds more than tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist, or is not a file")
    try:
        file = SafetensorsFile(path) if path.suffix == ".safetensors" else TorchFile(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    return Source((file,))


def open_directory(directory: Path) -> Source:
    """Opens all shards of a Hugging Face directory; the safetensors files if it has both kinds.

    Raises:
        CheckpointError: there are no shards, or one that the index names is missing.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{directory} does not exist, or is not a folder")
    found = (sorted(directory.glob(pattern)) for pattern in SHARD_PATTERNS)
    paths = next((paths for paths in found if paths), [])
    if not paths:
        raise CheckpointError(f"{directory} holds no {' and no '.join(SHARD_PATTERNS)}")
    for index in directory.glob(f"*{paths[0].suffix}.index.json"):
        for path in sorted(_listed_shards(index) - set(paths)):
            raise CheckpointError(f"{path} does not exist, but {index} lists it")
    return Source(tuple(file for path in paths for file in open_file(path).files))


def _listed_shards(index: Path) -> set[Path]:
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
        raise CheckpointError(f"{index} holds no weight_map of tensor and file names")
    return {index.parent / name for name in places.values()}


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        CheckpointError: the file is missing or does not hold a JSON object.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content


class SafetensorsFile:
    """A safetensors file. The format cannot hold code; its header is first checked against the file size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.infos: Mapping[str, TensorInfo] = {
            name: TensorInfo(entry.shape, entry.dtype, entry.dtype in SAFETENSORS_FLOATS)
            for name, entry in read_tensor_header(path).items()
        }
        self.leftovers: Mapping[str, str] = {}
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error

    def read(self, name: str) -> torch.Tensor:
        with safe_open(self.path, framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
            return tensor

    def release(self) -> None:
        """Does nothing: every read opens the file anew and keeps nothing."""


class TorchFile:
    """A .pth, .pt or .bin file: tensors are memory-mapped if the format allows it, and code is refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tensors: dict[str, torch.Tensor] | None = None
        content = _load(path)
        tensors, self._wrapper = _unwrap(content, path)
        self.infos: Mapping[str, TensorInfo] = {
            name: _info(tensor) for name, tensor in tensors.items()
        }
        self.leftovers: Mapping[str, str] = {
            str(key): "not a tensor: state of the training run"
            for key in content
            if key != self._wrapper and (self._wrapper is not None or key not in tensors)
        }

    def read(self, name: str) -> torch.Tensor:
        if self._tensors is None:
            self._tensors, _ = _unwrap(_load(self.path), self.path)
        return self._tensors[name]

    def release(self) -> None:
        # Pages of a mapped file stay in memory as long as it is mapped.
        self._tensors = None


def _unwrap(content: Any, path: Path) -> tuple[dict[str, torch.Tensor], str | None]:
    """The named tensors, and the key they were under."""
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not named tensors")
    wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
    named = content if wrapper is None else content[wrapper]
    tensors = {
        name: value
        for name, value in named.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    return tensors, wrapper


def _info(tensor: torch.Tensor) -> TensorInfo:
    is_dense = tensor.layout == torch.strided
    kind = str(tensor.dtype).removeprefix("torch.")
    return TensorInfo(
        tuple(tensor.shape),
        kind if is_dense else f"{tensor.layout} {kind}",
        is_dense and tensor.dtype in FLOATS,
    )


def _load(path: Path) -> Any:
    is_zip = zipfile.is_zipfile(path)
    try:
        # Files from before PyTorch 1.6 cannot be mapped and are read completely.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        holds = f"it names {named.group(1)}" if named else "it is damaged or truncated"
        raise CheckpointError(f"{path} holds more than tensors: {holds}; not loaded") from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is truncated or damaged: {first_line}") from error
