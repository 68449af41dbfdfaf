"""A data set in the form of MER2023's files, and a client that answers from a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serve_app.errors import ServeAppError

FEATURE_FOLDERS = ("mae_340_UTT", "maeV_399_UTT", "HL-UTT")


@pytest.fixture
def mer2023_folder(tmp_path: Path) -> Path:
    """Three clips (empty files) with their label list, transcripts and features."""
    for name, suffix in (("s_1", "mp4"), ("s_2", "avi"), ("s_3", "mp4")):
        (tmp_path / f"{name}.{suffix}").write_bytes(name.encode())
    (tmp_path / "list.txt").write_text("s_1 125 sad -10\ns_2 80 Happy -10\ns_3 90 neutral -10\n")
    (tmp_path / "transcripts.csv").write_text(
        'name,sentence\ns_1,"Well, no"\ns_2,Great\ns_3,It is nine\n'
    )
    for number, folder in enumerate(FEATURE_FOLDERS):
        (tmp_path / folder).mkdir()
        for name in ("s_1", "s_2", "s_3"):
            np.save(tmp_path / folder / f"{name}.npy", np.full(4, number + 0.5, np.float32))
    return tmp_path


class TableClient:
    """Answers from a table by clip name; the last answer repeats. A ServeAppError in the table is raised."""

    def __init__(self, answers: Mapping[str, list[str | ServeAppError]]) -> None:
        self.answers = {name: list(each) for name, each in answers.items()}
        self.asked: list[str] = []
        self.scored: list[Mapping[str, Any]] = []

    async def answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name = Path(body["video_path"]).stem
        self.asked.append(name)
        answer = (
            self.answers[name][0] if len(self.answers[name]) == 1 else self.answers[name].pop(0)
        )
        if isinstance(answer, ServeAppError):
            raise answer
        provenance = {"model_sha256": "m" * 64, "dtype": "float32", "zeroed": []}
        return {"text": answer, "provenance": provenance}

    async def score(self, body: Mapping[str, Any]) -> dict[str, Any]:
        labels = body["labels"]
        self.scored.append(body)
        return {
            "probabilities": [{"label": each, "probability": 1 / len(labels)} for each in labels],
            "label_mass": 0.5,
        }
