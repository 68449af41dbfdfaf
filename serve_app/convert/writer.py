"""Writes safetensors files tensor by tensor: the library's own writer needs a whole file in memory."""

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

DTYPE_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
HEADER_ALIGNMENT = 8  # bytes; the library's writer pads headers to this


def write_safetensors(
    path: Path,
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    tensors: Iterable[torch.Tensor],
) -> None:
    """Writes one file, in the order of `shapes`. `tensors` may be a generator."""
    header = _header(shapes, dtype)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)))
        file.write(header)
        for (name, shape), tensor in zip(shapes.items(), tensors, strict=True):
            assert tuple(tensor.shape) == shape, f"{name} is {tuple(tensor.shape)}, not {shape}"
            assert tensor.dtype == dtype, f"{name} is {tensor.dtype}"
            file.write(tensor.contiguous().view(torch.uint8).numpy().data)


def _header(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    entries |= dict(_entries(shapes, dtype))
    text = json.dumps(entries).encode()
    return text + b" " * (-len(text) % HEADER_ALIGNMENT)


def _entries(
    shapes: dict[str, tuple[int, ...]], dtype: torch.dtype
) -> Iterator[tuple[str, dict[str, object]]]:
    offset = 0
    for name, shape in shapes.items():
        end = offset + torch.Size(shape).numel() * dtype.itemsize
        yield (
            name,
            {
                "dtype": DTYPE_NAMES[dtype],
                "shape": list(shape),
                "data_offsets": [offset, end],
            },
        )
        offset = end
