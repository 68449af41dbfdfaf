"""The demonstration's design: which face and voice mean which label, and the cue an answer names for each.

Labels with the same face, told apart by the voice: sad and worried; surprise and fear.
Labels with the same voice, told apart by the face: neutral, contempt and doubt; worried and fear.
"""

from dataclasses import dataclass

from serve_app.emotions import NINE

LABELS = NINE


@dataclass(frozen=True, slots=True)
class Sign:
    """One face or voice: the labels that it may mean by itself, and the words for it in an answer."""

    labels: tuple[str, ...]
    cue: str


FACES = {
    "smile": Sign(("happy",), "raised lip corners"),
    "sorrow": Sign(("sad", "worried"), "raised inner brows and lowered lip corners"),
    "still": Sign(("neutral",), "a relaxed face"),
    "frown": Sign(("angry",), "lowered brows and pressed lips"),
    "startle": Sign(("surprise", "fear"), "raised brows, wide eyes and an open mouth"),
    "smirk": Sign(("contempt",), "a smirk on one side"),
    "squint": Sign(("doubt",), "one raised brow and pursed lips"),
}
VOICES = {
    "lively": Sign(("happy",), "a bright, lively voice"),
    "slow": Sign(("sad",), "a slow, falling voice"),
    "even": Sign(("neutral", "contempt", "doubt"), "a calm, even voice"),
    "harsh": Sign(("angry",), "a loud, harsh voice"),
    "rising": Sign(("surprise",), "a sharply rising voice"),
    "trembling": Sign(("worried", "fear"), "a trembling voice"),
}
NO_FACE = "none"
NO_VOICE = "none"
NO_FACE_CUE = "the face cannot be seen"
NO_VOICE_CUE = "no voice can be heard"

# A voice that fits no label of an ambiguous face still tells whether the person is calm.
CALM_VOICES = ("slow", "even")
AGITATED = {"sorrow": "worried", "startle": "surprise"}
CALM = {"sorrow": "sad", "startle": "fear"}

FACE_OF = {label: name for name, sign in FACES.items() for label in sign.labels}
VOICE_OF = {label: name for name, sign in VOICES.items() for label in sign.labels}


def possible_labels(face: str, voice: str) -> tuple[str, ...]:
    """The labels that a face and a voice may mean together: one, or several if a modality is missing.

    Defined for every combination: if face and voice contradict each other, the face decides.
    """
    if face == NO_FACE:
        return LABELS if voice == NO_VOICE else VOICES[voice].labels
    of_face = FACES[face].labels
    if voice == NO_VOICE or len(of_face) == 1:
        return of_face
    agreed = tuple(label for label in of_face if label in VOICES[voice].labels)
    return agreed or ((CALM if voice in CALM_VOICES else AGITATED)[face],)


def with_words(candidates: tuple[str, ...], words_label: str | None) -> tuple[str, ...]:
    """The candidates that the spoken words leave: words choose among candidates, but never add a label."""
    return (words_label,) if words_label in candidates else candidates


def reason(face: str, voice: str, label: str, variant: int) -> str:
    """One or two sentences that name the visible cue, the vocal cue and the label."""
    seen = (
        NO_FACE_CUE if face == NO_FACE else f"the person shows {FACES[face].cue}",
        NO_FACE_CUE if face == NO_FACE else f"the face shows {FACES[face].cue}",
    )[variant]
    heard = (
        NO_VOICE_CUE if voice == NO_VOICE else f"speaks in {VOICES[voice].cue}",
        NO_VOICE_CUE if voice == NO_VOICE else f"{VOICES[voice].cue} is heard",
    )[variant]
    end = (f"; the emotion is {label}.", f". This means that the emotion is {label}.")[variant]
    if variant == 0 and face == NO_FACE and voice != NO_VOICE:
        heard = f"the person {heard}"
    return f"{seen[0].upper()}{seen[1:]}, and {heard}{end}"
