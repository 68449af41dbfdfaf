"""Keeps answers on disk, one line for each as soon as it arrives, so that an interrupted run can continue."""

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any

from serve_app.errors import InvalidRequestError
from serve_app.evaluation.cases import Case, Outcome


class KeyedLines:
    """A file of JSON objects, each with a key. A truncated last line is dropped."""

    def __init__(self, path: Path) -> None:
        """Opens the file and reads its entries.

        Raises:
            InvalidRequestError: the file cannot be used; it is left as it is.
        """
        self._entries: dict[str, dict[str, Any]] = {}
        try:
            self._file = path.open("ab+")
            self._file.seek(0)
            data = self._file.read()
            whole = data[: data.rfind(b"\n") + 1]
            for line in whole.split(b"\n")[:-1]:
                entry = json.loads(line)
                self._entries[entry["key"]] = entry
            if data and not whole and not data.startswith(b'{"key": "'):
                raise ValueError("it has no lines")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidRequestError(
                f"{path} does not hold the answers of an evaluation: {error}; remove it to start over"
            ) from error
        self._file.truncate(len(whole))

    def __enter__(self) -> "KeyedLines":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def get(self, key: str) -> dict[str, Any] | None:
        return self._entries.get(key)

    def put(self, key: str, entry: dict[str, Any]) -> None:
        """Adds an entry: writes and flushes it before returning."""
        self._entries[key] = {"key": key, **entry}
        self._file.write(json.dumps(self._entries[key]).encode() + b"\n")
        self._file.flush()


class AnswerStore:
    """Stores the answers of an evaluation. Errors are not kept, so those cases are run again.

    A stored answer is reused only for the same clip (by its bytes), the same question and options, and the
    same answerer.
    """

    def __init__(self, lines: KeyedLines, answerer: str) -> None:
        """`answerer` identifies the model and its precision."""
        self._lines = lines
        self._answerer = answerer

    def find(self, key: str | None, case: Case) -> Outcome | None:
        entry = None if key is None else self._lines.get(key)
        if entry is None:
            return None
        return Outcome(
            case, entry["text"], entry["probabilities"], entry["label_mass"], entry["provenance"]
        )

    def add(self, key: str | None, outcome: Outcome) -> None:
        if key is None or not outcome.is_answered:
            return
        entry = {
            "id": outcome.case.id,
            "text": outcome.text,
            "probabilities": None if outcome.probabilities is None else dict(outcome.probabilities),
            "label_mass": outcome.label_mass,
            "provenance": dict(outcome.provenance),
        }
        self._lines.put(key, entry)

    def key(self, case: Case) -> str | None:
        """The key of a case; None if the clip or one of its feature files is missing."""
        digest = hashlib.sha256()
        for path in (case.clip, *case.features):
            try:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError:
                return None
        asked = [self._answerer, case.id, case.question, dict(case.fields), list(case.labels)]
        digest.update(json.dumps(asked, sort_keys=True).encode())
        return digest.hexdigest()
