"""The answers of an evaluation on disk, line by line, so that an interrupted run goes on where it stopped."""

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Any

from serve_app.errors import InvalidRequestError
from serve_app.evaluation.cases import Case, Outcome


class AnswerStore:
    """One JSON line for each answered case. Errors are not kept: those cases are asked again.

    An answer counts again only for the same clip by its bytes, the same question and options, and the same
    answerer.
    """

    def __init__(self, path: Path, answerer: str) -> None:
        """Reads what is there.

        Args:
            answerer: names the model, or the server.

        Raises:
            InvalidRequestError: the file cannot be used.
        """
        self._answerer = answerer
        self._known: dict[str, dict[str, Any]] = {}
        try:
            self._file = path.open("a+", encoding="utf-8")
            self._file.seek(0)
            text = self._file.read()
            whole = text[: text.rfind("\n") + 1]  # a last line without its end was cut off
            self._file.truncate(len(whole.encode()))
            for line in whole.splitlines():
                entry = json.loads(line)
                self._known[entry["key"]] = entry
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidRequestError(
                f"{path} does not hold the answers of an evaluation: {error}; remove it to begin anew"
            ) from error

    def __enter__(self) -> "AnswerStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def find(self, case: Case) -> Outcome | None:
        entry = self._known.get(self._key(case) or "")
        if entry is None:
            return None
        return Outcome(
            case, entry["text"], entry["probabilities"], entry["label_mass"], entry["provenance"]
        )

    def add(self, outcome: Outcome) -> None:
        """Written and flushed before the next answer is waited for."""
        key = self._key(outcome.case)
        if key is None or not outcome.is_answered:
            return
        entry = {
            "key": key,
            "id": outcome.case.id,
            "text": outcome.text,
            "probabilities": None if outcome.probabilities is None else dict(outcome.probabilities),
            "label_mass": outcome.label_mass,
            "provenance": dict(outcome.provenance),
        }
        self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._file.flush()

    def _key(self, case: Case) -> str | None:
        """None: the clip, or a feature of it, is not there."""
        digest = hashlib.sha256()
        for path in (case.clip, *case.features):
            try:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError:
                return None
        asked = [self._answerer, case.id, case.question, dict(case.fields), list(case.labels)]
        digest.update(json.dumps(asked, sort_keys=True).encode())
        return digest.hexdigest()
