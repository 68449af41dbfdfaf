"""Every error a caller can meet: one tree, each class with its HTTP status and its stable code.

    ServeAppError                   500 internal_error
    ├── RequestError                the caller's fault
    │   ├── UnauthorizedError       401 invalid_api_key     no key, an unknown one, or one that has expired
    │   ├── ModelNotFoundError      404 model_not_found     the server has another model
    │   ├── RateLimitedError        429 rate_limited        too many requests of this key or address
    │   ├── InvalidRequestError     422 invalid_request     a field is missing, unknown or out of range
    │   ├── BodyTooLargeError       413 body_too_large      the request's own bytes
    │   ├── BodyTooSlowError        408 body_too_slow       the request did not arrive in time
    │   ├── PoisonedRequestError    422 poisoned_request    two replicas in a row died over it
    │   ├── QuestionTooLongError    422 question_too_long   prompt + answer exceed the engine's context
    │   └── ClipError               raised while a clip is read or decoded
    │       ├── ClipNotFoundError     404 clip_not_found
    │       ├── ClipForbiddenError    403 clip_forbidden      outside the roots or domains, or unreadable
    │       ├── ClipUnreachableError  422 clip_unreachable    the host of its URL does not send it
    │       ├── ClipTooLargeError     413 clip_too_large      bytes
    │       ├── UnsupportedClipError  415 unsupported_clip    not one of the allowed containers
    │       ├── UndecodableClipError  422 undecodable_clip    damaged, or neither picture nor sound in it
    │       ├── ClipOverLimitError    422 clip_over_limit     duration, side, pixels, streams, packets
    │       ├── DecodeTimeoutError    422 decode_timeout      the wall-time limit of one clip
    │       └── DecodeCrashedError    422 decode_crashed      the decoder died over this clip
    ├── DecoderUnavailableError     503 decoder_unavailable   no decode worker starts: our fault
    ├── CheckpointError             500 bad_checkpoint      at start: the model directory cannot be used
    ├── ConfigurationError          500 bad_configuration   at start: serve.yaml or an option is wrong
    ├── OverloadedError             503 overloaded          a bounded queue is full; try again
    ├── NotReadyError               503 not_ready           still starting
    ├── ReplicaLostError            503 replica_lost        a call failed, or what it had made is gone
    │   └── ReplicaDiedError        503 replica_died        it died with the request and is being replaced
    ├── DeadlineExceededError       504 deadline_exceeded
    ├── BatchFailedError            500 batch_failed        `emotion-llama batch` cannot go on
    └── EngineError                 500 engine_error
        └── EngineDeadError         503 engine_dead         it died; the replica is being replaced
            └── EngineGoneError     503 engine_gone         it was dead before the request came

`title` is the short sentence clients may match on; the message names what was seen and what is allowed.
An error takes exactly one message, so that it survives pickling between processes.
"""

from typing import ClassVar


class ServeAppError(Exception):
    """Base of everything this package raises on purpose."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestError(ServeAppError):
    """The caller's fault (4xx): to be changed or sent later. Never retried on another replica."""

    status, code, title = 400, "bad_request", "Bad request"


class InvalidRequestError(RequestError):
    """A field is missing, unknown or out of range."""

    status, code, title = 422, "invalid_request", "Invalid request"


class UnauthorizedError(RequestError):
    """No API key, an unknown one, or one that has expired. The title is the original guide's."""

    status, code, title = 401, "invalid_api_key", "Invalid API key"


class ModelNotFoundError(RequestError):
    """A request names a model that this server does not have."""

    status, code, title = 404, "model_not_found", "No such model"


class RateLimitedError(RequestError):
    """Too many requests of this key or address; the message is the limit in words."""

    status, code, title = 429, "rate_limited", "Rate limit exceeded"


class BodyTooLargeError(RequestError):
    """The request itself has more bytes than the limit."""

    status, code, title = 413, "body_too_large", "Request too large"


class BodyTooSlowError(RequestError):
    """The request's body did not arrive in time."""

    status, code, title = 408, "body_too_slow", "Request too slow"


class PoisonedRequestError(RequestError):
    """Two replicas in a row died while they had it."""

    status, code, title = 422, "poisoned_request", "Request crashes the server"


class QuestionTooLongError(RequestError):
    """Prompt and answer together exceed the engine's context."""

    status, code, title = 422, "question_too_long", "Question too long"


class ClipError(RequestError):
    """Raised while a clip is read or decoded."""


class ClipNotFoundError(ClipError):
    """No file at the given path. The title is the one the original's API guide documents."""

    status, code, title = 404, "clip_not_found", "Video file not found"


class ClipForbiddenError(ClipError):
    """The path leaves the allowed roots, the URL the allowed domains, or the server may not read it."""

    status, code, title = 403, "clip_forbidden", "Video file not allowed"


class ClipUnreachableError(ClipError):
    """The host of its URL does not send it, or not in time."""

    status, code, title = 422, "clip_unreachable", "Video cannot be fetched"


class ClipTooLargeError(ClipError):
    """More bytes than the limit."""

    status, code, title = 413, "clip_too_large", "Video file too large"


class UnsupportedClipError(ClipError):
    """Not a media file, or a container that is not on the list."""

    status, code, title = 415, "unsupported_clip", "Not a supported video file"


class UndecodableClipError(ClipError):
    """Damaged, or it holds neither a picture nor sound."""

    status, code, title = 422, "undecodable_clip", "Video cannot be decoded"


class ClipOverLimitError(ClipError):
    """Too long, too wide, too many pixels, streams or packets."""

    status, code, title = 422, "clip_over_limit", "Video exceeds a limit"


class DecodeTimeoutError(ClipError):
    """Decoding took longer than the wall-time limit of one clip."""

    status, code, title = 422, "decode_timeout", "Video takes too long to decode"


class DecodeCrashedError(ClipError):
    """The decoder process died over this clip."""

    status, code, title = 422, "decode_crashed", "Video crashed the decoder"


class DecoderUnavailableError(ServeAppError):
    """No decode worker starts: our fault, not the clip's."""

    status, code, title = 503, "decoder_unavailable", "Decoder is restarting"


class CheckpointError(ServeAppError):
    """The model directory cannot be used; raised at start, never by a request."""

    status, code, title = 500, "bad_checkpoint", "Model directory cannot be used"


class ConfigurationError(ServeAppError):
    """serve.yaml or a command-line option is wrong; raised at start, never by a request."""

    status, code, title = 500, "bad_configuration", "Configuration error"


class OverloadedError(ServeAppError):
    """A bounded queue is full."""

    status, code, title = 503, "overloaded", "Server is busy"


class NotReadyError(ServeAppError):
    """The warm-up request has not gone through yet."""

    status, code, title = 503, "not_ready", "Server is starting"


class ReplicaLostError(ServeAppError):
    """A call to a replica failed, or what it had made for the request is gone."""

    status, code, title = 503, "replica_lost", "Server is recovering"


class ReplicaDiedError(ReplicaLostError):
    """The replica died while it had the request; it is being replaced."""

    status, code, title = 503, "replica_died", "Server is recovering"
    replica_id: str | None = None  # which one, where it is known


class DeadlineExceededError(ServeAppError):
    """The request's deadline passed before its answer was complete."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


class BatchFailedError(ServeAppError):
    """A batch cannot go on; what it has done is kept. Never raised by a request."""

    status, code, title = 500, "batch_failed", "Batch failed"


class EngineError(ServeAppError):
    """The engine failed over this request."""

    status, code, title = 500, "engine_error", "Engine error"


class EngineDeadError(EngineError):
    """The engine process is gone; its replica is being replaced."""

    status, code, title = 503, "engine_dead", "Engine is restarting"
    replica_id: str | None = None  # whose engine, where it is one of a replica


class EngineGoneError(EngineDeadError):
    """The engine was dead before the request came; the replica is being replaced."""

    status, code, title = 503, "engine_gone", "Engine is restarting"


def error_by_code(code: str | None) -> type[ServeAppError]:
    """The class with this code, as a server's X-Error-Code names it; the base class if there is none."""

    def search(kind: type[ServeAppError]) -> type[ServeAppError] | None:
        if kind.code == code:
            return kind
        return next(filter(None, map(search, kind.__subclasses__())), None)

    return search(ServeAppError) or ServeAppError
