"""Makes the cases of a protocol from a user's files: clips, labels, transcripts, ready features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serve_app.emotions import NINE, plain, same_label
from serve_app.engine.label_trie import MAX_LABELS, MIN_LABELS
from serve_app.errors import InvalidRequestError
from serve_app.evaluation.annotations import SENTENCE_COLUMNS, read_labels, read_texts
from serve_app.evaluation.cases import Case
from serve_app.evaluation.protocols import Protocol, request_fields
from serve_app.types import Parity

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".wav")
DFEW_DIGITS = 5  # DFEW's clips are named 00001 and so on; its tables write plain numbers


@dataclass(frozen=True, slots=True)
class Files:
    """The files and folders of a data set."""

    videos: Path
    labels: Path
    transcripts: Path | None = None
    features: Path | None = None


def own_labels(protocol: Protocol, labels: Sequence[str] | None, path: Path) -> Protocol:
    """`custom` with the caller's labels; without any, the nine if the file has no others, else the file's."""
    if labels is None:
        found = dict.fromkeys(a.label for a in read_labels(path, None))
        meant = {same_label(label, NINE) for label in found}
        are_nine = None not in meant and len(meant) == len(found)
        labels = NINE if are_nine else tuple(found)
    names = tuple(plain(label) for label in labels)
    if not MIN_LABELS <= len(set(names)) == len(names) <= MAX_LABELS or not all(names):
        raise InvalidRequestError(
            f"the labels are {', '.join(map(repr, labels))}; "
            f"expected {MIN_LABELS} to {MAX_LABELS} different ones"
        )
    return replace(protocol, asked=names, scored=names)


def make_cases(
    protocol: Protocol, files: Files, parity: Parity, with_probabilities: bool
) -> list[Case]:
    """One case for each labelled clip. A missing clip becomes an error when its case is run.

    Raises:
        InvalidRequestError: a file cannot be read or does not fit, or none of the clips exists.
    """
    if parity == "reference" and any(" " in label for label in protocol.scored):
        raise InvalidRequestError(
            "with --parity reference the last word of an answer is the label, but these have several words: "
            f"{', '.join(label for label in protocol.scored if ' ' in label)}"
        )
    annotations = read_labels(files.labels, protocol.scored)
    clips = find_clips(files, [annotation.name for annotation in annotations])
    sentences = read_sentences(files, (protocol.sentence_column, *SENTENCE_COLUMNS))
    return [
        Case(
            id=a.name,
            clip=clips[a.name],
            question=protocol.question(a.sentence if sentences is None else sentences(a.name)),
            truth=a.label,
            features=feature_files(files, protocol.feature_folders, a.name),
            fields=request_fields(parity),
            labels=protocol.scored if with_probabilities else (),
        )
        for a in annotations
    ]


def find_clips(files: Files, names: Sequence[str]) -> dict[str, Path]:
    """The file of each name; it may be missing.

    Raises:
        InvalidRequestError: two names mean the same file, or none of the files exists.
    """
    clips = {name: _find_clip(files.videos, name) for name in names}
    by_file = {clip: name for name, clip in clips.items()}
    for name, clip in clips.items():
        if by_file[clip] != name:
            raise InvalidRequestError(
                f"{files.labels} names {clip.name} twice: as {name!r} and {by_file[clip]!r}"
            )
    if not any(clip.exists() for clip in clips.values()):
        raise InvalidRequestError(
            f"--videos {files.videos} holds none of the {len(clips)} clips of {files.labels}: "
            f"no {next(iter(clips.values())).name}"
        )
    return clips


def _find_clip(folder: Path, name: str) -> Path:
    """The file of this name, with or without a suffix; numbers are also tried with leading zeros (DFEW)."""
    names = [name, name.zfill(DFEW_DIGITS)] if name.isdecimal() else [name]
    candidates = [folder / f"{each}{suffix}" for each in names for suffix in ("", *SUFFIXES)]
    exact = folder / (name if Path(name).suffix.lower() in SUFFIXES else f"{name}{SUFFIXES[0]}")
    return next((path for path in candidates if path.is_file()), exact)


def read_sentences(files: Files, columns: Sequence[str]) -> Callable[[str], str] | None:
    """A function from a clip's name to its transcript; None if there are no transcripts.

    Raises:
        InvalidRequestError: the file cannot be read. The function raises it when the file lacks the clip.
    """
    if files.transcripts is None:
        return None
    sentences = read_texts(files.transcripts, columns)

    def sentence(name: str) -> str:
        if name not in sentences:
            raise InvalidRequestError(f"{files.transcripts} has no transcript of {name!r}")
        return sentences[name]

    return sentence


def feature_files(files: Files, folders: Sequence[str], name: str) -> tuple[Path, ...]:
    if files.features is None:
        return ()
    stem = name.removesuffix(Path(name).suffix) if Path(name).suffix in SUFFIXES else name
    return tuple(files.features / folder / f"{stem}.npy" for folder in folders)
