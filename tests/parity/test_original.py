"""The oracle itself: every input moves its result, and it equals what was recorded of the original."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from parity.downloads import (
    EVA_WIDTH,
    HUBERT_WIDTH,
    LLAMA_WIDTH,
    VOCAB_SIZE,
    Downloads,
    write_downloads,
)
from parity.original import (
    EVA_EPS,
    LN_VISION_EPS,
    MAX_SERVING_ROWS,
    Original,
    evaluation_answer,
    instruction,
    ln_vision,
    penalised,
    serving_answer,
)
from parity.slow_tokenizer import SlowTokenizer, Version

GOLDENS = Path(__file__).parents[3] / "shared" / "goldens" / "open"
CLIPS = ("sample_00004671", "sample_00000694", "samplenew_00051251", "sample_00000338")
VISIBLE = 0.01  # in logits whose spread is 3; rounding is a thousandth of it
EMBEDDING_ERROR = 2e-5
TIE = 1e-4  # two logits nearer than this may change places by the order of float sums

QUESTION = "[emotion] What is the emotion expressed in this video?"
SOUND = np.random.default_rng(0).integers(-9000, 9000, 8000).astype(np.int16)
FRAME = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
LORA = "llama_model.base_model.model.model.layers.1.self_attn"

needs_goldens = pytest.mark.skipif(not GOLDENS.is_dir(), reason=f"no recordings at {GOLDENS}")


# On toy weights


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Downloads:
    return write_downloads(tmp_path_factory.mktemp("downloads") / "toy")


@pytest.fixture(scope="module")
def original(downloads: Downloads) -> Original:
    return Original(downloads)


def first_logits(
    original: Original,
    frame: npt.NDArray[np.uint8] = FRAME,
    sound: npt.NDArray[np.int16] = SOUND,
    question: str = QUESTION,
) -> torch.Tensor:
    rows = original.image_emb(frame, original.video_features(sound))
    return original.logits(original.serving_embeds(question, rows))


def test_shapes(original: Original) -> None:
    features = original.video_features(SOUND)
    assert features.shape == (3, HUBERT_WIDTH)
    assert original.eva(original.eva.pixel_values(FRAME)).shape == (1 + 1024, EVA_WIDTH)
    assert original.image_emb(FRAME, features).shape == (256 + 3 + 1, LLAMA_WIDTH)
    assert first_logits(original).shape == (VOCAB_SIZE,)


@pytest.mark.parametrize(
    "options",
    [
        {"peft_names": "lora_A.default.weight"},
        {"llama_files": "safetensors"},
        {"llama_files": "bin shards"},
        {"llama_files": "bin"},
        {"hubert_file": "safetensors"},
    ],
    ids=lambda options: "-".join(options.values()).replace(" ", "-"),
)
def test_every_layout_of_the_downloads_gives_the_same_logits(
    original: Original, tmp_path: Path, options: dict[str, Any]
) -> None:
    other = Original(write_downloads(tmp_path / "other", **options))
    assert torch.equal(first_logits(other), first_logits(original))


@pytest.mark.parametrize(
    "name",
    [
        f"{LORA}.q_proj.lora_A.weight",
        f"{LORA}.q_proj.lora_B.weight",
        f"{LORA}.v_proj.lora_A.weight",
        f"{LORA}.v_proj.lora_B.weight",
        "llama_proj.weight",
        "llama_proj.bias",
        "feats_llama_proj1.bias",  # serving has zeros there, so only the biases count
        "feats_llama_proj2.bias",
        "feats_llama_proj3.weight",
        "feats_llama_proj3.bias",
        "cls_tk_llama_proj.weight",
        "cls_tk_llama_proj.bias",
    ],
)
def test_every_trained_weight_moves_the_logits(
    original: Original, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = first_logits(original)
    monkeypatch.setitem(original.trained, name, torch.zeros_like(original.trained[name]))
    assert (first_logits(original) - before).abs().max() > VISIBLE


def test_frame_sound_and_question_move_the_logits(original: Original) -> None:
    before = first_logits(original)
    for other in (
        first_logits(original, frame=FRAME[::-1].copy()),
        first_logits(original, sound=SOUND[:4000]),
        first_logits(original, question="[reason] Why?"),
    ):
        assert (other - before).abs().max() > VISIBLE


@pytest.mark.parametrize("name", ["EVA_EPS", "LN_VISION_EPS"])
def test_the_eps_of_the_image_norms_shows_on_toy_weights(
    original: Original, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    features = original.video_features(SOUND)
    before = original.image_emb(FRAME, features)
    swapped = {"EVA_EPS": LN_VISION_EPS, "LN_VISION_EPS": EVA_EPS}[name]
    monkeypatch.setattr(f"parity.original.{name}", swapped)
    assert (original.image_emb(FRAME, features) - before).abs().max() > 50 * EMBEDDING_ERROR


@pytest.mark.parametrize("row", [0, 1, 2])
def test_every_utterance_feature_moves_its_own_row(original: Original, row: int) -> None:
    vision, features = torch.zeros(1025, EVA_WIDTH), torch.zeros(3, HUBERT_WIDTH)
    before = original.rows(vision, features)
    features[row] = 1
    moved = (original.rows(vision, features) != before).any(dim=1).nonzero().flatten()
    assert moved.tolist() == [256 + row]


def test_serving_and_evaluation_put_all_rows_at_the_video_mark(original: Original) -> None:
    rows = torch.randn(260, LLAMA_WIDTH)
    for segments in (
        original.serving_segments(QUESTION),
        original.evaluation_segments(instruction("Hello", "Which label?")),
    ):
        head, tail = segments
        assert head[:2] == [1, 1]  # the automatic BOS and the written <s>
        embeds = original.inputs_embeds(segments, rows)
        assert torch.equal(embeds[len(head) :][:260], rows)
        assert len(embeds) == len(head) + 260 + len(tail)
        assert "<FeatureHere>" in original.decode(tail)


def test_training_puts_the_feature_rows_at_their_own_mark(original: Original) -> None:
    rows = torch.randn(260, LLAMA_WIDTH)
    head, middle, tail = segments = original.training_segments(instruction("Hi", "Which label?"))
    assert head[0] == 1 and 1 not in head[1:]
    embeds = original.inputs_embeds(segments, rows)
    assert torch.equal(embeds[len(head) :][:256], rows[:256])
    assert torch.equal(embeds[-len(tail) - 4 : -len(tail)], rows[256:])
    assert original.decode(middle) == "</video> <feature>"
    assert original.decode(tail) == (
        "</feature> The person in video says: Hi.  [emotion] Which label?  [/INST]"
    )


def test_a_very_long_question_pushes_the_clip_out(original: Original) -> None:
    rows = torch.randn(260, LLAMA_WIDTH)
    question = "angry " * MAX_SERVING_ROWS
    tail = original.serving_segments(question)[1]
    text = original.inputs_embeds([tail, []], rows[:0])
    assert torch.equal(original.serving_embeds(question, rows), text[-MAX_SERVING_ROWS:])


def test_greedy_starts_with_the_best_first_token_and_repeats_itself(original: Original) -> None:
    rows = original.image_emb(FRAME, original.video_features(SOUND))
    embeds = original.serving_embeds(QUESTION, rows)
    answer = original.greedy(embeds, 12, repetition_penalty=1.05)
    assert answer.ids[0] == original.logits(embeds).argmax()
    assert len(answer.ids) == len(answer.margins) == 12
    assert answer == original.greedy(embeds, 12, repetition_penalty=1.05)


@contextmanager
def fixed_logits(original: Original, logits: dict[int, float]) -> Iterator[None]:
    """The same logits at every step: zeros, but for those named."""
    scores = torch.zeros(1, 1, VOCAB_SIZE)
    scores[..., list(logits)] = torch.tensor(list(logits.values()))
    hook = original.llama.lm_head.register_forward_hook(lambda *_: scores)
    yield
    hook.remove()


def test_greedy_stops_after_the_end_token(original: Original) -> None:
    with fixed_logits(original, {2: 1.0}):
        assert original.greedy(torch.randn(9, LLAMA_WIDTH), 12).ids == [2]


def test_the_penalty_counts_bos_and_the_answer_but_not_the_prompt(original: Original) -> None:
    prompt = original.inputs_embeds([[5, 6], [5, 6]], torch.randn(260, LLAMA_WIDTH))
    with fixed_logits(original, {1: 1.0, 5: 0.98, 6: 0.97}):
        assert original.greedy(prompt, 4).ids == [1, 1, 1, 1]
        assert original.greedy(prompt, 4, repetition_penalty=1.05).ids == [5, 6, 1, 1]


def test_the_penalty_lowers_each_seen_token_once() -> None:
    logits = torch.tensor([2.0, -2.0, 4.0, 1.0])
    assert penalised(logits, [0, 1, 1, 0], 2.0).tolist() == [1.0, -4.0, 4.0, 1.0]


def test_clean_up_of_answers() -> None:
    assert serving_answer("a Assistant: he smiles ### Human") == "he smiles"
    assert evaluation_answer("[INST] q [/INST] <s>happy </s> more") == "happy"


@pytest.mark.parametrize("version", ["4.30.0", "4.35.0"])
def test_special_tokens_in_a_text(downloads: Downloads, version: Version) -> None:
    tokenizer = SlowTokenizer(downloads.llama / "tokenizer.model", version)
    ids = tokenizer.encode("a</s>b<s>c<unk>d$$")
    assert [token for token in ids if token < 3] == [2, 1, 0]
    assert tokenizer.pad_id > 2 and tokenizer.pad_id in ids
    assert tokenizer.decode(ids).replace(" ", "") == "abcd"  # `$$` is lost, as it is in answers


def test_only_4_30_puts_a_space_before_text_that_follows_a_special_token(
    downloads: Downloads,
) -> None:
    old, new = (
        SlowTokenizer(downloads.llama / "tokenizer.model", version)
        for version in ("4.30.0", "4.35.0")
    )
    assert old.encode("<s>[INST] angry") == [1, *old.encode("[INST] angry")]
    assert new.encode("<s>[INST] angry") != old.encode("<s>[INST] angry")
    assert new.encode("[INST] angry") == old.encode("[INST] angry")


def test_only_4_35_drops_the_space_before_a_leading_pad_token(downloads: Downloads) -> None:
    model_file = downloads.llama / "tokenizer.model"
    old, new = SlowTokenizer(model_file, "4.30.0"), SlowTokenizer(model_file, "4.35.0")
    assert new.encode("$$") == [new.pad_id]
    assert old.encode("$$")[1:] == [old.pad_id]


# Against the recordings


@dataclass(frozen=True)
class Recording:
    """One published version's requests, and the oracle in that version."""

    original: Original
    requests: dict[tuple[str, int], Any]
    arrays: Any


@pytest.fixture(scope="module", params=["4.30.0", "4.35.0"])
def recording(request: pytest.FixtureRequest) -> Recording:
    folder = GOLDENS / {"4.30.0": "", "4.35.0": "tf435"}[request.param]
    requests = json.loads((folder / "golden.json").read_text())["requests"]
    return Recording(
        original=Original(Downloads.in_folder(GOLDENS / "weights"), request.param),
        requests={(entry["clip"], entry["prompt_index"]): entry for entry in requests},
        arrays=np.load(folder / "golden.npz"),
    )


@pytest.fixture(scope="module")
def golden() -> Original:
    return Original(Downloads.in_folder(GOLDENS / "weights"))


@pytest.fixture(scope="module")
def media() -> Any:
    """The arrays of every clip, which are the same in both versions."""
    return np.load(GOLDENS / "golden.npz")


@pytest.fixture(scope="module")
def image_embs(golden: Original, media: Any) -> dict[str, torch.Tensor]:
    return {
        clip: golden.image_emb(
            media[f"{clip}/image_u8"], golden.video_features(media[f"{clip}/audio_i16"])
        )
        for clip in CLIPS
    }


def difference(ours: torch.Tensor, recorded: npt.NDArray[np.float32]) -> float:
    assert ours.shape == recorded.shape
    return float(np.abs(ours.numpy() - recorded).max())


@needs_goldens
@pytest.mark.shared
@pytest.mark.parametrize("clip", CLIPS)
def test_the_clip_equals_the_recorded_arrays(
    golden: Original, media: Any, image_embs: dict[str, torch.Tensor], clip: str
) -> None:
    vision = golden.eva(golden.eva.pixel_values(media[f"{clip}/image_u8"]))
    assert difference(vision, media[f"{clip}/vit_out"]) <= EMBEDDING_ERROR
    # On the recorded input, because the wrong eps changes the result by 5e-6 only.
    recorded = torch.from_numpy(media[f"{clip}/vit_out"])
    assert difference(ln_vision(recorded), media[f"{clip}/ln_vision_out"]) <= 1e-6
    sound = golden.audio_feature(media[f"{clip}/audio_i16"])
    assert difference(sound, media[f"{clip}/audio_feature"]) <= EMBEDDING_ERROR
    assert difference(image_embs[clip], media[f"{clip}/image_emb"]) <= EMBEDDING_ERROR


@needs_goldens
@pytest.mark.shared
@pytest.mark.parametrize("prompt_index", range(3))
@pytest.mark.parametrize("clip", CLIPS)
def test_requests_equal_the_recorded_ones(
    recording: Recording, image_embs: dict[str, torch.Tensor], clip: str, prompt_index: int
) -> None:
    original, request = recording.original, recording.requests[clip, prompt_index]
    assert original.serving_segments(request["question"]) == request["segment_ids"]

    embeds = original.serving_embeds(request["question"], image_embs[clip])
    logits = recording.arrays[f"{clip}/p{prompt_index}/logits0"]
    assert difference(original.logits(embeds), logits) <= 1e-4

    for name, penalty in (("rp100", 1.0), ("rp105", 1.05)):
        out = request["out"][name]
        answer = original.greedy(embeds, 48, penalty)
        num_certain = steps_before_a_tie(out["top2_margin_per_step"])
        assert answer.ids[:num_certain] == out["ids"][1:][:num_certain]
        if num_certain == out["steps"]:
            assert len(answer.ids) == num_certain
            assert serving_answer(original.decode(answer.ids)) == out["text"]


def steps_before_a_tie(margins: list[float]) -> int:
    return next((step for step, margin in enumerate(margins) if margin < TIE), len(margins))


@needs_goldens
@pytest.mark.shared
@pytest.mark.parametrize("number", [0, 1])
def test_evaluation_equals_the_recorded_one(golden: Original, number: int) -> None:
    texts, arrays = json.loads((GOLDENS / "eval.json").read_text()), np.load(GOLDENS / "eval.npz")
    # No vision was recorded: the rows of face, video and audio are what evaluation adds.
    features = torch.from_numpy(arrays["video_features"][number])
    rows = golden.rows(torch.zeros(1025, golden.eva.tensors["cls_token"].shape[-1]), features)
    image_emb = arrays["image_emb"][number]
    assert difference(rows[256:259], image_emb[256:259]) <= EMBEDDING_ERROR

    segments = golden.evaluation_segments(texts["instruction_input"][number])
    embeds = golden.inputs_embeds(segments, torch.from_numpy(image_emb))
    length = arrays["attention_mask"][number].sum()
    assert difference(embeds, arrays["inputs_embeds"][number][-length:]) == 0

    answer = golden.greedy(embeds, 48)
    assert [1, *answer.ids] == arrays["output_ids"][number].tolist()
    assert evaluation_answer(golden.decode(answer.ids)) == texts["answers"][number]


@needs_goldens
@pytest.mark.shared
def test_the_recorded_instructions_follow_the_template() -> None:
    recorded = json.loads((GOLDENS / "eval.json").read_text())["instruction_input"]
    labels = "happy, sad, neutral, angry, worried, surprise, fear, contempt, doubt"
    question = f"Please determine which emotion label in the video represents: {labels}."
    assert instruction("Hello", question) == recorded[0]
    why = "What is the emotional state of the person in the video? Please tell me the reason."
    assert instruction("No", why, task="reason") == recorded[1]
