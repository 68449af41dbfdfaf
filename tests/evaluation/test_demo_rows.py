"""The demonstration's rows: the content of their clips, their right answers, and kept and missed limits."""

from pathlib import Path

import numpy as np
import pytest

from serve_app.demo.movie import combine
from serve_app.demo.phrases import WORDS
from serve_app.evaluation.cases import Case, Outcome
from serve_app.evaluation.demo_report import (
    Row,
    demo_report,
    missed_limits,
    rows_text,
    unique_cases,
)
from serve_app.evaluation.demo_rows import make_rows
from serve_app.media.decode import decode_clip
from serve_app.settings import MediaSettings
from serve_app.types import Clip, DecodeOptions

NUM_CLIPS = 9
SEED = 4_000_000


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    made = make_rows(tmp_path_factory.mktemp("world"), NUM_CLIPS, SEED)
    return {row.name: row for row in made}


def decode(path: Path) -> Clip:
    return decode_clip(path.read_bytes(), DecodeOptions(), MediaSettings(), image_size=112)


def test_a_swapped_clip_has_the_picture_of_one_and_the_sound_of_the_other(
    rows: dict[str, Row],
) -> None:
    first = rows["`[emotion]`"].cases
    clean = {case.clip.stem: case.clip for case in first}
    truth = {case.clip.stem: case.truth for case in first}
    for case in rows["sound of another clip"].cases[:4]:
        face, voice = case.clip.stem.split("+")
        assert truth[face] != truth[voice]
        both, of_face, of_voice = decode(case.clip), decode(clean[face]), decode(clean[voice])
        assert both.frame is not None and of_face.frame is not None
        assert np.array_equal(both.frame, of_face.frame)
        assert both.waveform is not None and of_voice.waveform is not None
        assert np.array_equal(both.waveform, of_voice.waveform)


def test_a_missing_part_is_missing_and_a_blank_one_is_blank(rows: dict[str, Row]) -> None:
    def first(name: str) -> Clip:
        return decode(rows[name].cases[0].clip)

    assert first("no sound track").waveform is None
    assert first("no picture").frame is None
    silent, black = first("silent sound track"), first("black picture")
    assert silent.waveform is not None and not silent.waveform.any()
    assert black.frame is not None and black.frame.max() <= 2
    assert black.waveform is not None and black.waveform.any()


def test_what_the_design_allows_without_a_modality(rows: dict[str, Row]) -> None:
    """Nine clips, one of each label: 5 faces mean one label and 4 mean one of two; voices likewise."""
    texts = {case.id: case.truth for row in rows.values() for case in row.cases}
    assert rows["no sound track"].result(texts)["ideal"] == pytest.approx((5 + 4 / 2) / 9)
    assert rows["black picture"].result(texts)["ideal"] == pytest.approx((4 + 3 / 3 + 2 / 2) / 9)
    pairs = rows["silent sound track: sad/worried, surprise/fear"].result(texts)
    assert (pairs["ideal"], pairs["num_cases"]) == (0.5, 4)


def test_a_reason_is_right_only_with_all_three_parts(rows: dict[str, Row]) -> None:
    row = rows["`[reason]`: all three"]
    text = "The person shows raised lip corners, and speaks in a bright, lively voice; the emotion is happy."
    assert row.cases[0].truth == "happy"
    assert row.checks[0](text)
    for part in ("raised lip corners", "bright, ", "is happy"):
        assert not row.checks[0](text.replace(part, ""))


def test_only_the_label_itself_is_right(rows: dict[str, Row]) -> None:
    check = rows["`[emotion]`"].checks[0]
    assert check("happy")
    assert not check("Happy") and not check("happy.") and not check("not happy")


def test_misleading_words_name_another_label(rows: dict[str, Row]) -> None:
    for case in rows["misleading words"].cases:
        words = (
            case.question.removeprefix("The person in video says: ").split("[emotion]")[0].strip()
        )
        (meant,) = [label for label, (_, kept) in WORDS.items() if words in kept]
        assert meant != case.truth


def cases(count: int) -> list[Case]:
    return [Case(str(number), Path("x.mp4"), "?") for number in range(count)]


@pytest.mark.parametrize(("num_right", "passed"), [(96, True), (95, False)])
def test_a_limit_is_kept_or_missed(num_right: int, passed: bool) -> None:
    row = Row("row", cases(100), [lambda text: text == "yes"] * 100, at_least=0.96)
    texts = {str(number): "yes" for number in range(num_right)}
    assert row.result(texts)["passed"] is passed


@pytest.mark.parametrize(
    ("share", "passed"), [(0.5, True), (0.55, True), (0.56, False), (0.3, False)]
)
def test_guessing_must_neither_beat_nor_miss_the_design(share: float, passed: bool) -> None:
    row = Row("row", cases(1000), [lambda text: text == "yes"] * 1000, chances=[0.5] * 1000)
    texts = {str(number): "yes" for number in range(round(1000 * share))}
    result = row.result(texts)
    assert result["tolerance"] == 0.05
    assert result["passed"] is passed


def test_few_guesses_may_scatter_as_chance_does() -> None:
    row = Row("row", cases(16), [bool] * 16, chances=[0.5] * 16)
    assert row.result({})["tolerance"] == pytest.approx(2 * 0.5 / 4)


def test_a_report_names_the_rows_that_missed_their_limit(rows: dict[str, Row]) -> None:
    asked = unique_cases(list(rows.values()))
    assert len(asked) < sum(len(row.cases) for row in rows.values())
    provenance = {"model_sha256": "m"}
    outcomes = [
        Outcome(
            case, "wrong" if case.id.startswith("layout") else case.truth, provenance=provenance
        )
        for case in asked
    ]
    report = demo_report(list(rows.values()), outcomes, SEED)
    assert report["scores"]["headline"]["accuracy"]["value"] == 1
    missed = missed_limits(report)
    assert {"layout `evaluation`", "layout `training`"} <= set(missed)
    assert "trained wordings" not in missed
    assert "layout `training`" in rows_text(report) and "MISSED" in rows_text(report)


def test_tracks_are_put_together_as_they_are(rows: dict[str, Row], tmp_path: Path) -> None:
    one, other = (case.clip for case in rows["`[emotion]`"].cases[:2])
    first = combine(one, other, tmp_path / "a.mp4").read_bytes()
    assert first == combine(one, other, tmp_path / "b.mp4").read_bytes()
    assert first != combine(other, one, tmp_path / "c.mp4").read_bytes()
