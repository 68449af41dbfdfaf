"""Reads an untrusted npz: no array is unpacked before its name, shape and type were checked."""

import io
import math
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from serve_app.errors import UndecodableClipError

METHODS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
)  # zipfile's other decoders may return more than was asked for
npy: Any = np.lib.format  # untyped to mypy
READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

# Raised by zipfile and numpy for damaged files; RuntimeError for encrypted ones.
DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, LookupError, RuntimeError)

Check = Callable[[str, tuple[int, ...], "np.dtype[Any]"], None]


def read_npz(data: bytes, check: Check) -> dict[str, npt.NDArray[Any]]:
    """The arrays by name. `check` gets the name, shape and dtype of each, and raises to refuse it.

    Raises UndecodableClipError for anything that `numpy.savez` would not have written.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            if len(set(names)) < len(names):
                raise UndecodableClipError(f"the npz holds the same name twice: {names[:10]}")
            return {
                name: _read_array(archive, member, name, check)
                for name, member in zip(names, members, strict=True)
            }
    except DAMAGE as error:
        raise UndecodableClipError(f"the npz cannot be read: {error}") from error


def _read_array(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, check: Check
) -> npt.NDArray[Any]:
    if member.compress_type not in METHODS:
        raise UndecodableClipError(f"{name} is packed by method {member.compress_type}")
    with archive.open(member) as file:
        shape, is_fortran, dtype = _read_header(file, name)
        check(name, shape, dtype)
        num_bytes = math.prod(shape) * dtype.itemsize
        if member.file_size != file.tell() + num_bytes:
            raise UndecodableClipError(
                f"{name} has {member.file_size} bytes; {shape} of {dtype} takes {num_bytes}"
            )
        return _array(file, num_bytes, dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, "np.dtype[Any]"]:
    try:
        header: tuple[tuple[int, ...], bool, np.dtype[Any]] = READ_HEADER[npy.read_magic(file)](
            file
        )
        return header
    except (
        Exception
    ) as error:  # numpy evaluates the header as a Python literal: its errors have no common base
        raise UndecodableClipError(f"{name[:40]!r} is no array: {error}") from error


def _array(file: IO[bytes], num_bytes: int, dtype: "np.dtype[Any]") -> npt.NDArray[Any]:
    content = file.read(num_bytes)  # unpacks no more than this, whatever the zip directory claims
    return np.frombuffer(content, dtype)
