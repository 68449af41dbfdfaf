"""The body of POST /v1/chat/completions: the supported fields of OpenAI and of vLLM's extension.

Unknown fields are refused, and so are known ones that are not supported and would change the answer.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve_app.api.clip_question import (
    Count,
    FrameTime,
    PositiveCount,
    Seed,
    UnicodeText,
    Whole,
)
from serve_app.settings import RepetitionPenalty, Temperature, TopP


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class MediaUrl(_Body):
    """An absolute path, a file: or https: URL, or a data: URL in base64."""

    url: UnicodeText
    detail: Literal["auto", "low", "high"] | None = None  # ignored: there is one size


class InputAudio(_Body):
    """Sound in base64."""

    data: str
    format: Literal["wav", "mp3"]


class TextPart(_Body):
    type: Literal["text"]
    text: UnicodeText


class VideoPart(_Body):
    type: Literal["video_url"]
    video_url: MediaUrl | UnicodeText
    uuid: str | None = None  # ignored: caches use the clip's content as its key


class ImagePart(_Body):
    type: Literal["image_url"]
    image_url: MediaUrl | UnicodeText
    uuid: str | None = None


class AudioPart(_Body):
    type: Literal["audio_url"]
    audio_url: MediaUrl | UnicodeText
    uuid: str | None = None


class InputAudioPart(_Body):
    type: Literal["input_audio"]
    input_audio: InputAudio
    uuid: str | None = None


MediaPart = VideoPart | ImagePart | AudioPart | InputAudioPart
Part = Annotated[TextPart | MediaPart, Field(discriminator="type")]


class Message(_Body):
    role: Literal["system", "developer", "user", "assistant"]
    content: UnicodeText | list[Part]
    name: str | None = None


class StreamOptions(_Body):
    include_usage: bool = False
    continuous_usage_stats: Literal[False] = False


class StructuredOutputs(_Body):
    """vLLM's structured outputs; exactly one of the fields must be set."""

    choice: list[UnicodeText] | None = Field(default=None, min_length=1, max_length=64)
    regex: str | None = Field(default=None, max_length=2000)
    json_schema: dict[str, Any] | str | None = Field(default=None, alias="json")


class JsonSchema(_Body):
    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(_Body):
    type: Literal["text", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatRequest(_Body):
    """The request's body, by OpenAI's names and ranges."""

    model: str
    messages: list[Message] = Field(min_length=1, max_length=100)
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: Count | None = Field(default=None, description="vLLM's.")
    repetition_penalty: RepetitionPenalty | None = Field(
        default=None, description="Over the answer's tokens; 1: none."
    )
    max_tokens: PositiveCount | None = None
    max_completion_tokens: PositiveCount | None = None
    seed: Seed | None = None
    stop: UnicodeText | list[UnicodeText] | None = Field(default=None, max_length=1000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20), Whole] | None = None
    structured_outputs: StructuredOutputs | None = None
    response_format: ResponseFormat | None = None
    n: Literal[1] = 1
    frame: Literal["first", "middle", "sharpest"] | FrameTime = Field(
        default="first", description="Ours: the frame the model sees."
    )
    # Accepted and ignored: they do not change the answer.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
