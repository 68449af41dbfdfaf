"""The fields that every route about a clip takes: the clip, the question, and how they become model input."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
)

from serve_app.errors import InvalidRequestError
from serve_app.settings import AppSettings, LimitSettings
from serve_app.types import (
    AudioMode,
    ClipSource,
    DecodeOptions,
    Features,
    LayoutName,
    Parity,
    PromptOptions,
    Tokenization,
)


def _whole(value: object) -> object:
    """Accept 5.0 as the integer 5: JSON has one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
Count = Annotated[int, Field(ge=0), Whole]
PositiveCount = Annotated[int, Field(gt=0), Whole]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63), Whole]
FrameTime = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
FeatureName = Literal["face_feature", "temporal_feature", "audio_feature"]
FLOAT32_MAX = float(np.finfo(np.float32).max)  # beyond it a feature would become infinite
FeatureValue = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX, allow_inf_nan=False)]
Feature = Annotated[list[FeatureValue], Field(min_length=1)]


def _check_unicode(value: str) -> str:
    """Refuse lone surrogates, which JSON can spell and no encoder accepts."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"not valid Unicode: {error.reason}") from error
    return value


UnicodeText = Annotated[str, AfterValidator(_check_unicode)]

BASE64 = "([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
CLIP_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": f"^(/|https:|data:[^;,]*(;[^;,]*)*;base64,{BASE64}$)",
}


class ClipQuestion(BaseModel):
    """Base class of the request bodies. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    video_path: UnicodeText = Field(
        description=(
            "An absolute path on the server, inside its allowed roots; a data: URL in base64; or an "
            "https: URL of a domain that the server may fetch from."
        ),
        json_schema_extra={"pattern": CLIP_SCHEMA["pattern"]},
    )
    question: UnicodeText
    frame: Literal["first", "middle", "sharpest"] | FrameTime = "first"
    parity: Parity | None = Field(default=None, description="In place of the server's setting.")
    layout: LayoutName | None = None
    tokenization: Tokenization | None = None
    audio_mode: AudioMode | None = Field(
        default=None, description="By default the one that belongs to `parity`."
    )
    features: dict[FeatureName, Feature] = Field(
        default={}, description="Ready features, in place of what the server would compute or zero."
    )

    @field_validator("video_path")
    @classmethod
    def _is_path_or_url(cls, value: str) -> str:
        if not value.startswith("/") and not is_https(value):
            raise ValueError("must be an absolute path, an https: URL, or a data: URL in base64")
        return value

    _data: bytes | None = PrivateAttr(default=None)

    def attach(self, data: bytes) -> None:
        """Use these bytes as the clip, in place of the path."""
        self._data = data

    def source(self) -> ClipSource:
        features: Features = {
            name: np.array(values, np.float32) for name, values in self.features.items()
        }
        if self._data is not None:
            return ClipSource(data=self._data, features=features)
        if is_https(self.video_path):
            return ClipSource(url=self.video_path, features=features)
        return ClipSource(path=self.video_path, features=features)

    def prompt_options(self, settings: AppSettings) -> PromptOptions:
        return PromptOptions(
            layout=self.layout or settings.layout,
            tokenization=self.tokenization or settings.tokenization,
            parity=self.parity or settings.parity,
        )

    def decode_options(self, settings: AppSettings, voice: bool = False) -> DecodeOptions:
        audio_mode = self.audio_mode or audio_mode_of(self.parity or settings.parity)
        return DecodeOptions(self.frame, voice, audio_mode)


def audio_mode_of(parity: Parity) -> AudioMode:
    """The default audio mode for this parity."""
    return "reference" if parity == "reference" else "clean"


def is_https(text: str) -> bool:
    """Whether the text is an https: URL; schemes are case-insensitive."""
    return text[:6].lower() == "https:"


def check_question(question: str, limits: LimitSettings) -> None:
    """Raises InvalidRequestError for a question over the limit: a long one would block the server."""
    limit = limits.max_question_chars
    if len(question) > limit:
        raise InvalidRequestError(f"question has {len(question)} characters; the limit is {limit}")
