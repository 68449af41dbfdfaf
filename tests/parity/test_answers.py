"""The real engine over converted downloads gives the original's tokens and text, alone and in a batch."""

import asyncio
import dataclasses
import itertools
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from parity.downloads import Downloads
from parity.original import (
    Greedy,
    Original,
    evaluation_answer,
    instruction,
    penalised,
    serving_answer,
)

from serve_app.check import open_checkpoint
from serve_app.engine.engine import Engine
from serve_app.media.decode import content_sha256
from serve_app.settings import EngineSettings
from serve_app.types import (
    FEATURE_NAMES,
    NO_SOURCE,
    Answer,
    AnswerRequest,
    Clip,
    LayoutName,
    PromptOptions,
    Sampling,
    Tokenization,
)

NUM_TOKENS = 48
TIE = 1e-4  # logits closer than this may come in either order: float32 sums differ by 1e-5
QUESTIONS = ("[emotion] What is the emotion expressed in this video?", "视频中的人物 </s>$$ <s> a?")
LAYOUTS: tuple[LayoutName, ...] = ("chat", "evaluation", "training")
TOKENIZATIONS: tuple[Tokenization, ...] = ("4.30", "4.35")
PENALTIES = (1.0, 1.05)
SCRIPT = Path(__file__).parents[2] / "scripts" / "clip_arrays.py"


@dataclass(frozen=True)
class Case:
    """One request, as the engine takes it."""

    clip: Clip
    question: str
    options: PromptOptions
    penalty: float

    async def ask(self, engine: Engine) -> Answer:
        sampling = Sampling(temperature=0, repetition_penalty=self.penalty, max_tokens=NUM_TOKENS)
        request = AnswerRequest(
            NO_SOURCE, self.question, sampling=sampling, prompt_options=self.options
        )
        return await engine.answer(self.clip, request)


def original_embeds(case: Case, original: Original) -> tuple[list[list[int]], torch.Tensor]:
    """Prompt ids by segment, and what LLaMA reads."""
    assert case.clip.frame is not None and case.clip.waveform is not None
    features = original.video_features(case.clip.waveform)
    for row, name in enumerate(FEATURE_NAMES):
        if name in case.clip.features:
            features[row] = torch.from_numpy(case.clip.features[name])
    rows = original.image_emb(case.clip.frame, features)
    if case.options.layout == "chat":
        segments = original.serving_segments(case.question)
    else:
        text = instruction("", "").split(" The person")[0] + f" {case.question} "
        is_evaluation = case.options.layout == "evaluation"
        encode = original.evaluation_segments if is_evaluation else original.training_segments
        segments = encode(text)
    return segments, original.inputs_embeds(segments, rows)


def assert_equal(answer: Answer, case: Case, original: Original) -> None:
    segments, embeds = original_embeds(case, original)
    with torch.inference_mode():
        expected = original.greedy(embeds, NUM_TOKENS, case.penalty)
    in_prompt = [token for token in answer.prompt_token_ids if token != 0]
    assert in_prompt == [token for segment in segments for token in segment if token != 0]
    num_sure = steps_before_a_tie(expected)
    assert answer.token_ids[:num_sure] == expected.ids[:num_sure]
    if num_sure == len(expected.ids):
        clean = serving_answer if case.options.layout == "chat" else evaluation_answer
        assert answer.token_ids == expected.ids
        assert answer.text == clean(original.decode(expected.ids))


def steps_before_a_tie(greedy: Greedy) -> int:
    return next((i for i, margin in enumerate(greedy.margins) if margin < TIE), len(greedy.ids))


@pytest.fixture(scope="module")
def cases(reference_clips: list[Clip]) -> list[Case]:
    return [
        Case(clip, question, PromptOptions(layout, tokenization, "reference"), penalty)
        for layout, tokenization, penalty, (clip, question) in itertools.product(
            LAYOUTS, TOKENIZATIONS, PENALTIES, zip(reference_clips, QUESTIONS, strict=True)
        )
    ]


async def test_a_batch_gives_the_originals_tokens_and_text(
    merged_engine: Engine, originals: dict[str, Original], cases: list[Case]
) -> None:
    answers = await asyncio.gather(*(case.ask(merged_engine) for case in cases))
    for answer, case in zip(answers, cases, strict=True):
        assert_equal(answer, case, originals[case.options.tokenization])
    assert len({tuple(answer.token_ids) for answer in answers}) > len(cases) / 2


async def test_one_by_one_they_are_the_same(merged_engine: Engine, cases: list[Case]) -> None:
    answers = await asyncio.gather(*(case.ask(merged_engine) for case in cases))
    for answer, case in list(zip(answers, cases, strict=True))[::5]:
        alone = await case.ask(merged_engine)
        assert (alone.token_ids, alone.text) == (answer.token_ids, answer.text)


async def test_ready_features_take_the_place_of_zeros_and_of_the_sound(
    merged_engine: Engine, originals: dict[str, Original], reference_clips: list[Clip]
) -> None:
    rng = np.random.default_rng(0)
    plain = reference_clips[0]
    features = {name: rng.normal(size=64).astype(np.float32) for name in FEATURE_NAMES}
    clip = dataclasses.replace(
        plain,
        features=features,
        content_sha256=content_sha256(plain.frame, plain.waveform, features),
    )
    options = PromptOptions("evaluation", "4.30", "reference")
    case = Case(clip, QUESTIONS[0], options, 1.0)
    answer = await case.ask(merged_engine)
    assert answer.provenance["features"] == sorted(FEATURE_NAMES)
    assert answer.provenance["zeroed"] == []
    assert_equal(answer, case, originals["4.30"])
    without = await Case(plain, QUESTIONS[0], options, 1.0).ask(merged_engine)
    assert without.token_ids != answer.token_ids


async def test_the_penalty_changes_answers(merged_engine: Engine, cases: list[Case]) -> None:
    plain = [case for case in cases if case.penalty == 1.0]
    penalised_cases = [dataclasses.replace(case, penalty=1.05) for case in plain]
    answers = await asyncio.gather(*(case.ask(merged_engine) for case in plain))
    others = await asyncio.gather(*(case.ask(merged_engine) for case in penalised_cases))
    changed = [a.token_ids != b.token_ids for a, b in zip(answers, others, strict=True)]
    assert sum(changed) > len(changed) / 2


async def test_an_adapter_gives_the_tokens_of_merged_weights(
    converted_with_adapter: Path, originals: dict[str, Original], cases: list[Case]
) -> None:
    engine = Engine(open_checkpoint(converted_with_adapter), EngineSettings(max_model_len=1024))
    try:
        for case in cases[::9]:
            answer = await case.ask(engine)
            assert_equal(answer, case, originals[case.options.tokenization])
    finally:
        engine.shutdown()


async def test_the_arrays_are_the_originals(
    converted: Path,
    originals: dict[str, Original],
    reference_clips: list[Clip],
    tmp_path: Path,
    toy_downloads: Downloads,
) -> None:
    """Equal tokens alone miss subtle errors: a norm's eps, a GELU's form, one feature of 260."""
    original = originals["4.30"]
    clip = reference_clips[1]
    case = Case(clip, QUESTIONS[0], PromptOptions(parity="reference"), 1.0)
    (before, after), embeds = original_embeds(case, original)
    marker = original.llama.config.vocab_size
    arrays = {
        "clip/image_u8": clip.frame,
        "clip/audio_i16": clip.waveform,
        "clip/p0/prompt_ids": np.array([*before, marker, *after]),
    }
    np.savez(tmp_path / "inputs.npz", **arrays)  # type: ignore[arg-type]
    files = (converted, tmp_path / "inputs.npz", tmp_path / "out.npz")
    command = [sys.executable, str(SCRIPT), *map(str, files)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    out = np.load(tmp_path / "out.npz")
    assert clip.frame is not None and clip.waveform is not None
    with torch.inference_mode():
        rows = original.image_emb(clip.frame, original.video_features(clip.waveform))
        logits = original.logits(embeds)
        audio_feature = original.audio_feature(clip.waveform)
    assert np.abs(out["clip/image_emb"] - rows.numpy()).max() <= 2e-5
    assert np.abs(out["clip/audio_feature"] - audio_feature.numpy()).max() <= 1e-5
    assert np.abs(out["clip/p0/logits0"] - logits.numpy()).max() <= 1e-4
    assert np.abs(out["clip/p0/sample_probs0"] - first_distribution(logits)).max() <= 1e-4


def first_distribution(logits: torch.Tensor) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """(vocab_size,): penalty 1.05 over BOS, temperature 0.2, top_k 50, top_p 0.9, as transformers does it."""
    logits = penalised(logits, [1], 1.05) / 0.2
    probabilities = torch.zeros_like(logits)
    values, order = logits.topk(50)
    kept = values.softmax(0)
    before = kept.cumsum(0) - kept
    kept = torch.where(before < 0.9, kept, 0)
    probabilities[order] = kept / kept.sum()
    distribution: np.ndarray[tuple[int], np.dtype[np.float32]] = probabilities.numpy()
    return distribution
