"""The decode stage: decodes a unit's clips in a pool of decode workers. Does not depend on Ray."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from serve_app.batch.busy import cpu_busy
from serve_app.batch.records import error_record
from serve_app.batch.rows import DecodedUnit, Group, Record, RowRequest, Unit
from serve_app.batch.storage import is_uri, locate
from serve_app.errors import (
    ClipForbiddenError,
    ClipNotFoundError,
    ClipTooLargeError,
    DecodeCrashedError,
    DecoderUnavailableError,
    RequestError,
)
from serve_app.media.features import read_features
from serve_app.media.pool import DecodePool
from serve_app.settings import MediaSettings
from serve_app.types import Clip, ClipSource

logger = logging.getLogger(__name__)

# One dead worker may have been killed from outside; after three deaths the clip is to blame.
TRIES = 3


class Decoding:
    """Decodes units with one pool of workers. Create it inside a running event loop."""

    def __init__(self, settings: MediaSettings, image_size: int) -> None:
        self._settings = settings
        self._pool = DecodePool(settings, image_size)

    async def decode(self, unit: Unit) -> DecodedUnit:
        """Decodes each clip once. A clip's error becomes the record of each of its rows.

        Raises:
            DecoderUnavailableError: no decode worker started, in `TRIES` tries.
        """
        decoded = await asyncio.gather(*map(self._decode, unit.groups))
        clips: list[tuple[Clip, tuple[RowRequest, ...]]] = []
        done = list(unit.refused)
        for group, clip in zip(unit.groups, decoded, strict=True):
            if isinstance(clip, Clip):
                clips.append((clip, group.row_requests))
            else:
                done += _refuse(group.row_requests, clip)
        return DecodedUnit(tuple(clips), tuple(done), cpu_busy())

    def close(self) -> None:
        """Ends the workers; returns when they have exited."""
        self._pool.close()

    async def _decode(self, group: Group) -> Clip | RequestError:
        try:
            source = await asyncio.to_thread(self._with_features, group)
            return await self._decode_again(source, group)
        except RequestError as error:
            return error

    async def _decode_again(self, source: ClipSource, group: Group) -> Clip:
        for _ in range(TRIES - 1):
            try:
                return await self._pool.decode(source, group.decode_options)
            except (DecodeCrashedError, DecoderUnavailableError) as error:
                logger.warning("decoding once more: %s", error.message)
        return await self._pool.decode(source, group.decode_options)

    def _with_features(self, group: Group) -> ClipSource:
        source = group.source
        if source.path is not None and is_uri(source.path):
            source = replace(source, path=None, data=_fetch(source.path, self._settings))
        if group.features is not None:
            source = replace(source, features=read_features(Path(group.features)))
        return source


def _fetch(uri: str, settings: MediaSettings) -> bytes:
    limit = settings.max_clip_bytes
    filesystem, inside = locate(uri)
    try:
        with filesystem.open_input_file(inside) as file:
            num_bytes = file.size()
            if num_bytes > limit:
                raise ClipTooLargeError(f"{uri} has {num_bytes} bytes; the limit is {limit}")
            data: bytes = file.read()
            return data
    except FileNotFoundError as error:
        raise ClipNotFoundError(f"no file at {uri}: {error}") from error
    except OSError as error:
        raise ClipForbiddenError(f"{uri} cannot be read: {error}") from error


def _refuse(row_requests: Sequence[RowRequest], error: RequestError) -> list[Record]:
    return [
        error_record(
            row_request.number, row_request.id, error, is_openai=row_request.chat_model is not None
        )
        for row_request in row_requests
    ]
