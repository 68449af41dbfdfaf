"""Turns a chat into what the model takes: one clip, the earlier turns, and the question to answer."""

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from serve_app.api.clip_body import DATA_URL, decode_data_url
from serve_app.api.clip_question import is_https
from serve_app.api.openai.schema import (
    AudioPart,
    ImagePart,
    InputAudioPart,
    MediaPart,
    Message,
    TextPart,
    VideoPart,
)
from serve_app.errors import InvalidRequestError
from serve_app.types import ClipSource, Turn


@dataclass(frozen=True, slots=True)
class Conversation:
    """The clip and the questions of a chat."""

    source: ClipSource
    history: tuple[Turn, ...]
    question: str


def read_conversation(messages: list[Message]) -> Conversation:
    """The conversation of a chat's messages. A system message is put before the first question: the model
    has no such role.

    Raises:
        InvalidRequestError: not exactly one clip, or not user and assistant in turn with the user last.
    """
    system = ""
    turns: list[Message] = []
    for number, message in enumerate(messages):
        if message.role in ("system", "developer"):
            if turns:
                raise InvalidRequestError(
                    f"messages.{number}: a {message.role} message comes first"
                )
            system += f"{_text(message)}\n"
        else:
            turns.append(message)
    for number, message in enumerate(turns):
        expected = ("user", "assistant")[number % 2]
        if message.role != expected:
            raise InvalidRequestError(f"messages: {message.role} where {expected} is expected")
    if len(turns) % 2 == 0:
        raise InvalidRequestError("messages: the last one is the user's")
    texts = [_text(message) for message in turns]
    texts[0] = system + texts[0]
    history = tuple(Turn(*pair) for pair in zip(texts[0:-1:2], texts[1::2], strict=True))
    return Conversation(_source(messages), history, texts[-1])


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content if isinstance(part, TextPart))


def _source(messages: list[Message]) -> ClipSource:
    media: list[MediaPart] = []
    for message in messages:
        parts = [] if isinstance(message.content, str) else message.content
        found = [part for part in parts if not isinstance(part, TextPart)]
        if found and message.role != "user":
            raise InvalidRequestError(f"messages: a clip in a message of the {message.role}")
        media += found
    if len(media) != 1:
        raise InvalidRequestError(
            f"messages hold {len(media)} clips; exactly one video_url, image_url, audio_url or input_audio"
        )
    return _read(media[0])


def _read(part: MediaPart) -> ClipSource:
    if isinstance(part, InputAudioPart):
        try:
            return ClipSource(data=base64.b64decode(part.input_audio.data, validate=True))
        except (binascii.Error, ValueError) as error:
            raise InvalidRequestError(f"input_audio.data is not base64: {error}") from error
    return _from_url(_url(part))


def _url(part: VideoPart | ImagePart | AudioPart) -> str:
    if isinstance(part, VideoPart):
        named = part.video_url
    elif isinstance(part, ImagePart):
        named = part.image_url
    else:
        named = part.audio_url
    return named if isinstance(named, str) else named.url


def _from_url(url: str) -> ClipSource:
    if DATA_URL.match(url):
        return ClipSource(data=decode_data_url(url))
    if is_https(url):
        return ClipSource(url=url)
    if url.startswith("file:"):
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise InvalidRequestError(f"{url[:80]!r} is no URL: {error}") from error
        if parts.netloc not in ("", "localhost"):
            raise InvalidRequestError(f"{url[:80]!r} names another host")
        url = unquote(parts.path)
    if not Path(url).is_absolute():
        raise InvalidRequestError(
            f"{url[:80]!r} is none of a data: URL in base64, an https: URL and an absolute path on the server"
        )
    return ClipSource(path=url)
