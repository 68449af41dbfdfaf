"""Users' files become cases: exact prompts, labels by any name, and mistakes named by file and row."""

from pathlib import Path

import numpy as np
import pytest

from serve_app.emotions import NINE, find_label
from serve_app.errors import InvalidRequestError
from serve_app.evaluation.annotations import read_labels
from serve_app.evaluation.dataset import Files, find_clips, make_cases, own_labels
from serve_app.evaluation.protocols import PROTOCOLS

MER2023 = PROTOCOLS["mer2023"]


def mer_files(folder: Path, with_features: bool = True) -> Files:
    return Files(
        folder,
        folder / "list.txt",
        folder / "transcripts.csv",
        folder if with_features else None,
    )


def test_the_mer2023_prompt_is_the_originals_to_the_space(mer2023_folder: Path) -> None:
    first, second, _ = make_cases(MER2023, mer_files(mer2023_folder), "reference", False)
    # The layout adds one more space, so that two stand before [/INST] as well.
    assert first.question == (
        "The person in video says: Well, no.  [emotion] Please determine which emotion label in the video "
        "represents: happy, sad, neutral, angry, worried, surprise, fear, contempt, doubt."
    )
    assert (first.truth, second.truth) == ("sad", "happy")
    assert second.clip.name == "s_2.avi"
    body = first.body()
    assert body["layout"] == "evaluation"
    assert (body["temperature"], body["repetition_penalty"], body["max_tokens"]) == (0, 1, 500)
    assert body["features"]["temporal_feature"] == [1.5] * 4
    assert "frame" not in body  # the first, by default


def test_without_transcripts_the_prompt_has_no_sentence(mer2023_folder: Path) -> None:
    files = Files(mer2023_folder, mer2023_folder / "list.txt")
    (first, *_) = make_cases(PROTOCOLS["mer2024"], files, "reference", True)
    assert first.question == (
        "[emotion] Please determine which emotion label in the video represents: "
        "happy, sad, neutral, angry, worried, surprise."
    )
    assert first.features == ()
    assert first.labels == ("happy", "sad", "neutral", "angry", "worried", "surprise")


@pytest.mark.parametrize(
    ("answer", "reference", "default"),
    [
        ("sad", "sad", "sad"),
        ("The emotion is sad", "sad", "sad"),
        ("Happy", None, "happy"),
        ("angry.", None, "angry"),
        ("fear", None, None),  # asked for, not scored
        ("happiness", None, "happy"),
        ("neither happy nor sad but worried, I think", None, "worried"),
        ("The anxiety of someone unhappy", None, "sad"),
        ("unhappily", None, None),  # names count as whole words
        ("", None, None),
    ],
)
def test_labels_are_read_by_the_originals_rule_or_by_their_names(
    answer: str, reference: str | None, default: str | None
) -> None:
    assert MER2023.read(answer, "reference") == reference
    assert MER2023.read(answer, "default") == default


def test_a_whole_answer_wins_over_its_words() -> None:
    assert find_label("very sad", ["sad", "very sad"]) == "very sad"


def test_a_csv_has_labels_by_other_names_and_its_own_transcripts(tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text(
        "\ufeffvideo_name, emotion_label, transcription\na.mp4, Happiness, Hello there\nb,worry,\n"
    )
    assert [(a.name, a.label, a.sentence) for a in read_labels(table, NINE)] == [
        ("a.mp4", "happy", "Hello there"),
        ("b", "worried", ""),
    ]
    (tmp_path / "a.mp4").touch()
    custom = own_labels(PROTOCOLS["custom"], None, table)
    first, second = make_cases(custom, Files(tmp_path, table), "default", True)
    assert first.question.startswith("The person in video says: Hello there.  [emotion]")
    assert second.question.startswith("[emotion]")
    assert second.clip == tmp_path / "b.mp4"  # not there: its own request will say so
    assert len(custom.scored) == 9


def test_labels_of_ones_own(tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text("name,label\na,calm down\nb,Tense\n")
    found = own_labels(PROTOCOLS["custom"], None, table)
    assert found.asked == found.scored == ("calm down", "tense")
    assert "represents: calm down, tense." in found.question(None)
    given = own_labels(PROTOCOLS["custom"], ["tense", "calm down", "Anger"], table)
    assert given.scored == ("tense", "calm down", "anger")
    assert given.read("She is rather angry.", "default") == "anger"
    assert given.read("Please calm down now", "default") == "calm down"


def test_labels_that_are_other_names_of_one_stay_apart_where_a_set_has_both(tmp_path: Path) -> None:
    table = tmp_path / "ravdess.csv"
    table.write_text("name,label\na,calm\nb,Neutral\nc,01\n")
    found = own_labels(PROTOCOLS["custom"], None, table)
    assert found.scored == ("calm", "neutral", "01")
    assert [a.label for a in read_labels(table, found.scored)] == ["calm", "neutral", "01"]


@pytest.mark.parametrize("labels", [["anger"], ["a", "a"], ["a", ""], [str(n) for n in range(65)]])
def test_a_set_of_labels_must_be_usable(tmp_path: Path, labels: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="2 to 64 different ones"):
        own_labels(PROTOCOLS["custom"], labels, tmp_path / "unread.csv")


def test_the_originals_rule_cannot_read_labels_of_several_words(tmp_path: Path) -> None:
    table = tmp_path / "own.csv"
    table.write_text("name,label\na,calm down\nb,tense\n")
    custom = own_labels(PROTOCOLS["custom"], None, table)
    with pytest.raises(InvalidRequestError, match=r"last word.*calm down"):
        make_cases(custom, Files(tmp_path, table), "reference", True)


def test_dfew_has_numbers_for_labels_and_names(tmp_path: Path) -> None:
    table = tmp_path / "set_1.csv"
    table.write_text("video_name,label\n1,6\n20,happy\n")
    (tmp_path / "00001.mp4").touch()
    annotations = read_labels(table, PROTOCOLS["dfew"].scored)
    assert [a.label for a in annotations] == ["disgust", "happy"]
    assert find_clips(Files(tmp_path, table), ["1"])["1"].name == "00001.mp4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\na,glee\n", "'a' has the label 'glee'; allowed: happy, sad"),
        ("name,label\na,sad\na,sad\n", "has 'a' twice"),
        ("name,mood\na,sad\n", "has the columns name, mood; expected one of label"),
        ("name,label\na\n", "row 2 has 1 cells; its header has 2"),
        ("name,label\na,\n", "'a' has the label ''"),
        ("name,label\n,sad\n", "a row without a name"),
        ("name,label\n", "a header and no rows"),
        ("", "is empty"),
    ],
)
def test_a_wrong_table_is_refused_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(InvalidRequestError, match=message):
        read_labels(table, MER2023.scored)


def test_a_wrong_list_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a 1 sad -10\nb sad\n")
    with pytest.raises(InvalidRequestError, match="line 2: 'b sad' is not"):
        read_labels(path, MER2023.scored)
    with pytest.raises(InvalidRequestError, match="No such file"):
        read_labels(tmp_path / "none.txt", MER2023.scored)


def test_a_folder_with_none_of_the_clips_is_refused(mer2023_folder: Path) -> None:
    for path in mer2023_folder.glob("s_*"):
        path.unlink()
    with pytest.raises(InvalidRequestError, match="none of the 3 clips"):
        make_cases(MER2023, mer_files(mer2023_folder), "reference", False)


def test_a_clip_without_its_transcript_is_refused(mer2023_folder: Path) -> None:
    (mer2023_folder / "transcripts.csv").write_text("name,sentence\ns_1,a\n")
    with pytest.raises(InvalidRequestError, match="no transcript of 's_2'"):
        make_cases(MER2023, mer_files(mer2023_folder), "reference", False)


def test_features_must_be_vectors(mer2023_folder: Path) -> None:
    np.save(mer2023_folder / "HL-UTT" / "s_1.npy", np.zeros((2, 4), np.float32))
    (mer2023_folder / "HL-UTT" / "s_2.npy").write_bytes(b"no array")
    first, second, _ = make_cases(MER2023, mer_files(mer2023_folder), "reference", False)
    with pytest.raises(InvalidRequestError, match=r"s_1\.npy is float32 of shape \(2, 4\)"):
        first.body()
    with pytest.raises(InvalidRequestError, match=r"s_2\.npy"):
        second.body()
    np.save(mer2023_folder / "HL-UTT" / "s_1.npy", np.array([1.0, np.nan]))
    with pytest.raises(InvalidRequestError, match=r"s_1\.npy has values that are not finite"):
        first.body()
    with (mer2023_folder / "HL-UTT" / "s_1.npy").open("wb") as file:
        np.savez(file, a=np.zeros(4))
    with pytest.raises(InvalidRequestError, match=r"s_1\.npy is an archive"):
        first.body()


def test_one_clip_under_two_names_is_refused(mer2023_folder: Path) -> None:
    (mer2023_folder / "list.txt").write_text("s_1 1 sad -10\ns_1.mp4 1 sad -10\n")
    files = Files(mer2023_folder, mer2023_folder / "list.txt")
    with pytest.raises(InvalidRequestError, match=r"s_1\.mp4 twice"):
        make_cases(MER2023, files, "reference", False)


def test_a_transcript_is_passed_on_as_it_is(mer2023_folder: Path) -> None:
    (mer2023_folder / "transcripts.csv").write_bytes(
        'name,sentence\ns_1,"two\u2028lines,\n\nand a blank "\ns_2,b\ns_3,c\n'.encode()
    )
    (first, *_) = make_cases(MER2023, mer_files(mer2023_folder), "reference", False)
    assert "says: two\u2028lines,\n\nand a blank .  [emotion]" in first.question
