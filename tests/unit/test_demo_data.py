"""The demonstration's design and material: what a face and a voice mean, and that clips show and say it."""

from pathlib import Path

import numpy as np
import pytest
from demo.conversation import CLIP_POSITION, draw_exercise, encode_exercise
from demo.data import FACE_NAMES, VOICE_NAMES, make_faces, make_voices
from demo.vocabulary import write_tokenizer

from serve_app.checkpoint import TOKENIZER
from serve_app.demo.clips import label_scenes, write_scene
from serve_app.demo.faces import ACTION_UNITS, draw_action_units, landmarks
from serve_app.demo.labels import (
    FACE_OF,
    FACES,
    LABELS,
    NO_FACE,
    NO_VOICE,
    VOICE_OF,
    VOICES,
    possible_labels,
    reason,
    with_words,
)
from serve_app.demo.phrases import (
    EMOTION_QUESTIONS,
    REASON_QUESTIONS,
    UNSEEN_EMOTION_QUESTIONS,
    UNSEEN_REASON_QUESTIONS,
    WORDS,
)
from serve_app.demo.voices import add_noise, draw_style, speak
from serve_app.media.decode import decode_clip
from serve_app.settings import MediaSettings
from serve_app.tokenizer import Tokenizer
from serve_app.types import SAMPLE_RATE, DecodeOptions

NUM_CLIP_POSITIONS = 20


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("vocabulary")
    write_tokenizer(folder / TOKENIZER, seed=0)
    return Tokenizer(folder)


def test_every_face_with_every_voice_means_one_label() -> None:
    for face in FACES:
        for voice in VOICES:
            assert len(possible_labels(face, voice)) == 1, (face, voice)


@pytest.mark.parametrize("label", LABELS)
def test_a_labels_own_face_and_voice_mean_it(label: str) -> None:
    assert possible_labels(FACE_OF[label], VOICE_OF[label]) == (label,)


def test_two_pairs_look_alike_and_two_groups_sound_alike() -> None:
    looks = {sign.labels for sign in FACES.values() if len(sign.labels) > 1}
    sounds = {sign.labels for sign in VOICES.values() if len(sign.labels) > 1}
    assert looks == {("sad", "worried"), ("surprise", "fear")}
    assert sounds == {("neutral", "contempt", "doubt"), ("worried", "fear")}


def test_without_a_modality_the_alike_stay_open() -> None:
    assert possible_labels("sorrow", NO_VOICE) == ("sad", "worried")
    assert possible_labels(NO_FACE, "even") == ("neutral", "contempt", "doubt")
    assert possible_labels(NO_FACE, NO_VOICE) == LABELS


def test_words_choose_among_what_is_open_and_overrule_nothing() -> None:
    assert with_words(("sad", "worried"), "worried") == ("worried",)
    assert with_words(("sad", "worried"), "happy") == ("sad", "worried")
    assert with_words(("angry",), "happy") == ("angry",)


@pytest.mark.parametrize("variant", [0, 1])
def test_a_reason_names_both_cues_and_the_label(variant: int) -> None:
    text = reason("sorrow", "trembling", "worried", variant)
    assert FACES["sorrow"].cue in text
    assert VOICES["trembling"].cue in text
    assert text.endswith("the emotion is worried.")


def test_action_units_move_the_landmarks() -> None:
    still = landmarks(np.zeros(len(ACTION_UNITS)))
    jaw = np.zeros(len(ACTION_UNITS))
    jaw[ACTION_UNITS.index("jaw_open")] = 1
    moved = np.abs(landmarks(jaw) - still).max(axis=1)
    assert moved[13] > 0.3  # the lower lip
    assert moved[:10].max() == 0  # neither brows nor eyes


def test_one_sided_faces_come_on_both_sides() -> None:
    units = [draw_action_units("smirk", np.random.default_rng(seed)) for seed in range(20)]
    left, right = (ACTION_UNITS.index(f"{side}_corner_up") for side in ("left", "right"))
    assert {bool(u[left] > u[right]) for u in units} == {True, False}


def test_material_is_the_same_for_a_seed_and_other_for_another() -> None:
    first, again, other = (make_faces(4, seed, image_size=112) for seed in (1, 1, 2))
    assert np.array_equal(first.frames, again.frames)
    assert not np.array_equal(first.frames, other.frames)
    voices = [make_voices(3, seed).waveforms for seed in (1, 1, 2)]
    assert np.array_equal(voices[0], voices[1])
    assert not np.array_equal(voices[0], voices[2])


def test_material_holds_every_kind_and_landmarks_lie_in_the_picture() -> None:
    faces = make_faces(96, seed=3, image_size=112)
    assert set(faces.faces) == set(range(len(FACE_NAMES)))
    seen = faces.landmarks[faces.faces != FACE_NAMES.index(NO_FACE)]
    assert np.mean((seen > 0) & (seen < 1)) > 0.99
    assert VOICE_NAMES[-1] == NO_VOICE


def test_a_harsh_voice_is_brighter_than_a_slow_one() -> None:
    def brightness_hz(voice: str) -> float:
        """The mean frequency of the power spectrum, over twenty speakers."""
        powers = [
            np.abs(np.fft.rfft(speak(draw_style(voice, random), 1.0, random))) ** 2
            for random in map(np.random.default_rng, range(20))
        ]
        power = np.mean([p / p.sum() for p in powers], axis=0)
        return float((power * np.fft.rfftfreq(SAMPLE_RATE, 1 / SAMPLE_RATE)).sum())

    assert brightness_hz("harsh") > 1.3 * brightness_hz("slow")


def test_noise_has_the_stated_level() -> None:
    random = np.random.default_rng(0)
    sound = speak(draw_style("even", random), 2.0, random) * 0.1
    noise = add_noise(sound, 10.0, random) - sound
    ratio_db = 10 * np.log10(np.mean(sound**2) / np.mean(noise**2))
    assert ratio_db == pytest.approx(10.0, abs=0.3)


def test_clips_go_through_real_codecs(tmp_path: Path) -> None:
    for scene in label_scenes(4, seed=11, snr_db=20.0):
        data = write_scene(scene, tmp_path).read_bytes()
        clip = decode_clip(data, DecodeOptions(), MediaSettings(), image_size=112)
        assert clip.frame is not None and clip.frame.std() > 5
        assert clip.waveform is not None and len(clip.waveform) >= 1.4 * SAMPLE_RATE
        assert clip.missing == ()


def test_exercises_are_prompts_of_the_product_with_one_clip(tokenizer: Tokenizer) -> None:
    random = np.random.default_rng(0)
    layouts = set()
    for _ in range(60):
        exercise = draw_exercise(random)
        layouts.add(exercise.options.layout)
        ids = encode_exercise(exercise.options, exercise.question, tokenizer, NUM_CLIP_POSITIONS)
        assert ids.count(CLIP_POSITION) == NUM_CLIP_POSITIONS
        assert ids[0] == tokenizer.bos_id
        assert tokenizer.decode(tokenizer.encode([exercise.answer], "4.30")) == exercise.answer
    assert layouts == {"chat", "evaluation", "training"}


def test_labels_are_single_tokens(tokenizer: Tokenizer) -> None:
    assert all(len(tokenizer.encode([label], "4.30")) == 1 for label in LABELS)


def test_what_the_report_asks_was_not_trained_on() -> None:
    assert not set(EMOTION_QUESTIONS) & set(UNSEEN_EMOTION_QUESTIONS)
    assert not set(REASON_QUESTIONS) & set(UNSEEN_REASON_QUESTIONS)
    assert all(not set(trained) & set(kept) for trained, kept in WORDS.values())
    assert set(WORDS) == set(LABELS)
