"""The types that travel between processes: plain dataclasses and numpy arrays."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000
"""Hz of every waveform: HuBERT's input rate."""

FrameChoice = Literal["first", "middle", "sharpest"] | float
"""Which frame the model sees; a number is a time in seconds from the start of the video."""

AudioMode = Literal["clean", "reference"]
"""How sound becomes a waveform: `clean` resamples, `reference` picks samples as the original does."""

FEATURE_NAMES = ("face_feature", "temporal_feature", "audio_feature")
Features = Mapping[str, npt.NDArray[np.float32]]
"""Ready features of a clip by name, each (feature_size,), used in place of a tower's output."""


@dataclass(frozen=True, slots=True)
class ClipSource:
    """Where a clip comes from: a path on the server, the bytes themselves, or a URL. Exactly one is set."""

    path: str | None = None
    data: bytes | None = None
    url: str | None = None  # https; fetched into `data` before decoding
    features: Features = field(default_factory=dict)  # by the names in FEATURE_NAMES

    def __post_init__(self) -> None:
        given = [each for each in (self.path, self.data, self.url) if each is not None]
        assert len(given) == 1, "a source is a path, bytes or a URL"
        assert self.features.keys() <= set(FEATURE_NAMES), f"unknown among {set(self.features)}"

    def key(self) -> str:
        """A name for the clip: a hash of the path or URL as given, or of all its bytes."""
        if self.data is not None:
            return f"data-{hashlib.sha256(self.data).hexdigest()}"
        kind, name = ("path", self.path) if self.url is None else ("url", self.url)
        assert name is not None
        # File names need not be valid text; Python then has surrogates in them.
        return f"{kind}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()}"


NO_SOURCE = ClipSource(path="")
"""The source of a request whose clip travels separately, decoded or shared by many requests."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """The caller's choices about decoding."""

    frame: FrameChoice = "first"
    voice: bool = False
    audio_mode: AudioMode = "clean"


@dataclass(frozen=True, slots=True)
class VoiceStatistics:
    """librosa's statistics of the voice. Pitch fields are None where nothing voiced was found."""

    energy_rms: float  # root mean square of the samples, full scale = 1
    energy_db: float  # the same in dB relative to full scale, floored at -120
    pitch_median_hz: float | None
    pitch_range_hz: float | None  # 95th minus 5th percentile of the voiced frames
    voiced_share: float  # voiced frames / all frames, 0..1
    num_pauses: int  # silences of at least 0.2 s between sounds
    pause_share: float  # time in pauses / duration of the waveform, 0..1


@dataclass(frozen=True, slots=True)
class Clip:
    """A decoded clip, as the CPU stage sends it to the GPU stage: in integers, smaller than floats."""

    sha256: str  # of the source bytes
    frame: npt.NDArray[np.uint8] | None  # (image_size, image_size, 3) RGB; None without a picture
    frame_time_s: float | None  # of that frame, from the start of the video
    waveform: npt.NDArray[np.int16] | None  # (num_samples,) mono at SAMPLE_RATE; None without sound
    duration_s: float
    # Any of "video", "audio" and "voice" (the sound is silent throughout).
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what decoding had to work around, for the answer's provenance
    voice: VoiceStatistics | None = None
    read_ms: float = 0.0  # time to read its bytes from a file or fetch them from a URL
    decode_ms: float = 0.0  # reading, decoding and voice statistics, without waiting for a worker
    # Hash of pixels, samples and features: equal exactly when the model sees the same.
    content_sha256: str = ""
    audio_mode: AudioMode | None = "clean"  # None: the clip came with its waveform
    features: Features = field(default_factory=dict)  # those of its source

    @property
    def audio_span_s(self) -> tuple[float, float] | None:
        """The part of the sound the model hears, in seconds; None without sound."""
        return None if self.waveform is None else (0.0, len(self.waveform) / SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are sampled, by vLLM's names; `temperature` 0 is greedy, `top_k` 0 keeps every token."""

    temperature: float = 0.2
    top_p: float = 0.9
    top_k: int = 50
    repetition_penalty: float = 1.05  # over BOS and the answer, not the prompt; 1: no penalty
    max_tokens: int = 500
    seed: int | None = None
    stop: tuple[str, ...] = ()  # stop strings; they are not part of the answer
    # Structured output, by one of choice, regex and json.
    constraint: Mapping[str, Any] | None = None
    # Number of most probable tokens to report at each step; None: no log-probabilities.
    num_logprobs: int | None = None


Task = Literal["emotion", "reason"]
"""What a row of a batch may ask for instead of a question: label probabilities, or a reason."""

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
"""Number format of the engine; auto: that of the checkpoint's files."""
LayoutName = Literal["chat", "evaluation", "training"]
Tokenization = Literal["4.30", "4.35"]
"""The version of transformers whose token ids to produce: the original's two environments differ."""
Parity = Literal["default", "reference"]
"""`reference` reproduces the original, its mistakes included (docs/fidelity.md)."""
CacheStatus = Literal["hit", "miss"] | None
"""Whether the answer came from the answer cache; None: such answers are not cached."""


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """How a question becomes a prompt, and the generated tokens become text."""

    layout: LayoutName = "chat"
    tokenization: Tokenization = "4.30"
    parity: Parity = "default"


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier question about the clip, and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """One question about one clip, with everything the stages need to know."""

    source: ClipSource
    question: str
    decode_options: DecodeOptions = DecodeOptions()
    sampling: Sampling = Sampling()
    prompt_options: PromptOptions = PromptOptions()
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    history: tuple[Turn, ...] = ()  # earlier turns, oldest first
    traceparent: str | None = None  # of the request's span, in W3C's format; None: not traced


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A request for the probability of each of these labels as the answer to a question about a clip."""

    source: ClipSource
    question: str
    labels: tuple[str, ...]
    decode_options: DecodeOptions = DecodeOptions()
    prompt_options: PromptOptions = PromptOptions()
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    traceparent: str | None = None


Request = TypeVar("Request", bound=AnswerRequest | ScoreRequest)


def without_source(request: Request) -> Request:
    """The request without its source, as an engine takes it together with the decoded clip."""
    return replace(request, source=NO_SOURCE)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer, as the engine reports them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int  # prompt tokens whose keys and values came from the prefix cache

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class TokenScore:
    """Log-probability of one token of an answer, and the most probable tokens at its position."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """A piece of a streamed answer. The last one has the finish reason and the token counts."""

    text: str
    finish_reason: str | None = None
    usage: Usage | None = None
    scores: tuple[TokenScore, ...] = ()
    cache: CacheStatus = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The engine's answer to one question about one clip."""

    text: str
    token_ids: list[int]
    prompt_token_ids: list[int]
    finish_reason: str
    usage: Usage
    timings_ms: Mapping[str, float]  # decode, queue, first_token, total
    provenance: Mapping[str, Any] = field(default_factory=dict)
    voice: VoiceStatistics | None = None
    scores: tuple[TokenScore, ...] = ()  # empty unless asked for
    cache: CacheStatus = None


@dataclass(frozen=True, slots=True)
class LabelScores:
    """The model's probability of each label as the answer to a question about a clip."""

    probabilities: Mapping[str, float]  # in the request's order; they add up to 1
    label_mass: float  # the model's own probability of all labels together, 0..1
    usage: Usage  # summed over all steps
    timings_ms: Mapping[str, float]  # decode, total
    provenance: Mapping[str, Any] = field(default_factory=dict)
    voice: VoiceStatistics | None = None
    cache: CacheStatus = None


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """The load of one engine. The counts are floats because autoscaling averages them over time."""

    num_running: float  # requests in the batch
    num_waiting: float  # requests accepted but not started
    # Fraction of the blocks in use, 0..1; blocks kept only for prefix caching count as free.
    kv_cache_usage: float
    max_num_seqs: float  # most requests it runs at once
