"""The nouns that travel between processes: plain dataclasses and numpy arrays."""

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
"""How sound becomes a waveform: by a resampler, or the way the original's library picks its samples."""

FEATURE_NAMES = ("face_feature", "temporal_feature", "audio_feature")
Features = Mapping[str, npt.NDArray[np.float32]]
"""Ready features of a clip by name, (feature_size,) each: in place of what a tower would compute."""


@dataclass(frozen=True, slots=True)
class ClipSource:
    """Where a clip comes from: a path on the server, the bytes themselves, or a URL. Exactly one is set."""

    path: str | None = None
    data: bytes | None = None
    url: str | None = None  # https; it becomes data before anything is decoded
    features: Features = field(default_factory=dict)  # names from FEATURE_NAMES; they travel along

    def __post_init__(self) -> None:
        given = [each for each in (self.path, self.data, self.url) if each is not None]
        assert len(given) == 1, "a source is a path, bytes or a URL"
        assert self.features.keys() <= set(FEATURE_NAMES), f"unknown among {set(self.features)}"

    def key(self) -> str:
        """Names the clip: by the path or URL as given, or by its bytes, all of which it reads."""
        if self.data is not None:
            return f"data-{hashlib.sha256(self.data).hexdigest()}"
        kind, name = ("path", self.path) if self.url is None else ("url", self.url)
        assert name is not None
        # Names of files need not be text, and come with surrogates then.
        return f"{kind}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()}"


NO_SOURCE = ClipSource(path="")
"""In a request whose clip travels beside it: decoded, or once for many requests."""


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What the caller may choose about decoding."""

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
    """A decoded clip: what crosses from the CPU stage to the GPU stage. Bytes, not floats: 4x smaller."""

    sha256: str  # of the source bytes
    frame: npt.NDArray[np.uint8] | None  # (image_size, image_size, 3) RGB; None without a picture
    frame_time_s: float | None  # of that frame, from the start of the video
    waveform: npt.NDArray[np.int16] | None  # (num_samples,) mono at SAMPLE_RATE; None without sound
    duration_s: float
    # Of "video", "audio", "voice" (a track that is silent throughout).
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what decoding had to work around, for the answer's provenance
    voice: VoiceStatistics | None = None
    read_ms: float = 0.0  # for its bytes: from a file, or from the host of a URL
    decode_ms: float = 0.0  # reading, decoding and the voice; waiting for a worker is not in it
    # Of the pixels, samples and features: equal exactly when the model sees the same.
    content_sha256: str = ""
    audio_mode: AudioMode | None = "clean"  # None: the waveform came ready-made
    features: Features = field(default_factory=dict)  # the source's

    @property
    def audio_span_s(self) -> tuple[float, float] | None:
        """The part of the sound the model hears, in seconds; None without sound."""
        return None if self.waveform is None else (0.0, len(self.waveform) / SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. vLLM's names; `temperature` 0 is greedy, `top_k` 0 keeps every token."""

    temperature: float = 0.2
    top_p: float = 0.9
    top_k: int = 50
    repetition_penalty: float = 1.05  # over BOS and the answer, not the prompt; 1 is none
    max_tokens: int = 500
    seed: int | None = None
    stop: tuple[str, ...] = ()  # texts that end the answer; they are not part of it
    # One of choice, regex, json: the answer can be nothing else.
    constraint: Mapping[str, Any] | None = None
    # Of the most probable tokens at each step; None: no log-probabilities.
    num_logprobs: int | None = None


Task = Literal["emotion", "reason"]
"""What a row of a batch may ask for in place of a question: a label with probabilities, or why."""

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
"""Of the engine's numbers; auto: as the checkpoint is stored."""
LayoutName = Literal["chat", "evaluation", "training"]
Tokenization = Literal["4.30", "4.35"]
"""The version of transformers whose token ids are meant: the original's two environments differ."""
Parity = Literal["default", "reference"]
"""`reference` does what the original does, its mistakes included (docs/fidelity.md)."""
CacheStatus = Literal["hit", "miss"] | None
"""Whether the answer was one given before; None: not of those that are kept."""


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """How a question becomes a prompt, and tokens become the answer's text."""

    layout: LayoutName = "chat"
    tokenization: Tokenization = "4.30"
    parity: Parity = "default"


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier question about the clip, and what was answered."""

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
    history: tuple[Turn, ...] = ()  # before this question, the first one first
    traceparent: str | None = None  # W3C's, of the request's span; None: not traced


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """How probable is each of these labels as the answer to one question about one clip?"""

    source: ClipSource
    question: str
    labels: tuple[str, ...]
    decode_options: DecodeOptions = DecodeOptions()
    prompt_options: PromptOptions = PromptOptions()
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    traceparent: str | None = None


Request = TypeVar("Request", bound=AnswerRequest | ScoreRequest)


def without_source(request: Request) -> Request:
    """The request as an engine takes it, beside the decoded clip."""
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
    """One token of an answer, and the most probable ones in its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """What an answer has grown by. The last one has a finish reason and the token counts."""

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
    scores: tuple[TokenScore, ...] = ()  # where they were asked for
    cache: CacheStatus = None


@dataclass(frozen=True, slots=True)
class LabelScores:
    """How probable the model finds each of some labels as the answer to a question about a clip."""

    probabilities: Mapping[str, float]  # in the order they were given; they add up to 1
    label_mass: float  # what the model by itself puts on all of them together, 0..1
    usage: Usage  # of all steps together
    timings_ms: Mapping[str, float]  # decode, total
    provenance: Mapping[str, Any] = field(default_factory=dict)
    voice: VoiceStatistics | None = None
    cache: CacheStatus = None


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """How full one engine is. A float where it is the mean over a time."""

    num_running: float  # requests in the batch
    num_waiting: float  # requests that it has taken but not begun
    # Of its blocks, 0..1; blocks that only wait to be found again count as free.
    kv_cache_usage: float
    max_num_seqs: float  # requests it can run at once
