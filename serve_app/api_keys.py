"""API keys. Only their hashes are stored: in a file, read again when it changes, or in a variable."""

import fcntl
import hashlib
import hmac
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from serve_app.errors import ConfigurationError, InvalidRequestError
from serve_app.settings import Rate
from serve_app.validation import describe_problems

logger = logging.getLogger(__name__)

KEYS_VARIABLE = "EMOTION_LLAMA_API_KEYS"  # the same JSON as in the file
CHECK_EVERY_S = 1.0


class ApiKey(BaseModel):
    """One key. `emotion-llama key NAME` makes one and prints its entry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64, pattern=r"^[\w.@-]+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of the key, as hex.")
    rate: Rate | None = Field(default=None, description='Such as "10/minute"; None: the default.')
    expires: datetime | None = Field(default=None, description="With a time zone; None: never.")

    @field_validator("expires")
    @classmethod
    def _has_zone(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("has no time zone; write 2027-01-01T00:00:00Z")
        return value


class KeyStore:
    """The keys of one server."""

    def __init__(self, path: Path | None) -> None:
        """Raises ConfigurationError: the file or the variable is wrong."""
        self._path = path
        self._read_at = 0.0
        self._modified_ns = 0
        self._keys: dict[str, ApiKey] = {}
        self._load()

    @property
    def is_open(self) -> bool:
        """Whether there are no keys, so that everybody may ask."""
        return self._path is None and not os.environ.get(KEYS_VARIABLE)

    def find(self, presented: str) -> ApiKey | None:
        """The presented key's entry, unless unknown or expired. Takes the same time for every wrong key."""
        self._reload()
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for sha256, key in self._keys.items():
            if hmac.compare_digest(sha256, digest):
                found = key
        if found is None or (found.expires is not None and found.expires <= datetime.now(UTC)):
            return None
        return found

    def _reload(self) -> None:
        """Read a changed file again. If it is invalid, that is logged and the old keys stay."""
        now = time.monotonic()
        if self._path is None or now - self._read_at < CHECK_EVERY_S:
            return
        self._read_at = now
        try:
            if self._path.stat().st_mtime_ns != self._modified_ns:
                self._load()
        except (OSError, ConfigurationError) as error:
            logger.error("keys stay as they were: %s", error)

    def _load(self) -> None:
        keys = (
            _parse(os.environ[KEYS_VARIABLE], KEYS_VARIABLE)
            if os.environ.get(KEYS_VARIABLE)
            else []
        )
        if self._path is not None:
            try:
                self._modified_ns = self._path.stat().st_mtime_ns
            except OSError as error:
                raise ConfigurationError(f"{self._path}: {error}") from error
            keys += read_keys(self._path)
        self._keys = {key.sha256: key for key in keys}


def read_keys(path: Path) -> list[ApiKey]:
    """Read a file of keys. Raises ConfigurationError: the file is wrong."""
    try:
        return _parse(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def add_key(path: Path, key: ApiKey) -> None:
    """Add a key to the file, which is created if missing. Concurrent calls take turns.

    Raises:
        ConfigurationError: the file is wrong.
        InvalidRequestError: it already has a key of this name.
    """
    path = path.resolve()  # a link stays one
    with _held(path.parent):
        keys = read_keys(path) if path.exists() else []
        if any(each.name == key.name for each in keys):
            raise InvalidRequestError(f"{path} has a key of the name {key.name!r} already")
        _write_keys(path, [*keys, key])


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder. The kernel releases it if the process dies."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ConfigurationError(f"{folder}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write_keys(path: Path, keys: list[ApiKey]) -> None:
    """Write the file atomically, readable by its owner only."""
    part = path.with_name(f"{path.name}.part")
    part.touch(mode=0o600)
    entries = [key.model_dump(mode="json", exclude_none=True) for key in keys]
    part.write_text(json.dumps({"keys": entries}, indent=1) + "\n")
    part.rename(path)


def _parse(text: str, where: str) -> list[ApiKey]:
    try:
        raw: Any = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{where} is not JSON: {error}") from error
    if not isinstance(raw, Mapping) or not isinstance(raw.get("keys"), list):
        raise ConfigurationError(f'{where}: expected {{"keys": [...]}}')
    keys = []
    for number, entry in enumerate(raw["keys"]):
        try:
            keys.append(ApiKey.model_validate(entry))
        except ValidationError as error:
            problems = describe_problems(error.errors(), f"keys.{number}")
            raise ConfigurationError(f"{where}: {problems}") from error
    names = [key.name for key in keys]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{where}: two keys have one name")
    return keys
