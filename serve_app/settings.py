"""Every knob of serve.yaml's `args:` as frozen models. Unknown keys are rejected by name."""

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from serve_app.types import Dtype, LayoutName, Parity, Tokenization

MIB = 1 << 20
PREPROCESSED = "npz"  # what `emotion-llama preprocess` writes, among MediaSettings.containers

IpNetwork = IPv4Network | IPv6Network
DomainPattern = Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*(:\d{1,5})?$")]

# Of a request, and of its defaults.
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
RepetitionPenalty = Annotated[float, Field(ge=0.01, le=100)]


def _check_rate(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,8} ?(/|per) ?(second|minute|hour|day)", text):
        raise ValueError(f"{text!r} is no rate; write 10/minute")
    return text


Rate = Annotated[str, AfterValidator(_check_rate)]
"""Requests in a time."""


class Settings(BaseModel):
    """Base: immutable, and a misspelt key stops the deploy with the key's name in the message."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class UrlSettings(Settings):
    """Clips that are fetched from https URLs. Off until domains are named."""

    allowed_domains: tuple[DomainPattern, ...] = Field(
        default=(),
        description="`cdn.example.org`; `*.example.org` is every host below; `:8443` is another port.",
    )
    allowed_networks: tuple[IpNetwork, ...] = Field(
        default=(),
        description="Where a domain may be beside public addresses, such as 10.1.0.0/16.",
    )
    ca_file: Path | None = Field(
        default=None, description="Certificates to trust in place of the system's."
    )
    max_redirects: int = Field(
        default=3, ge=0, le=10, description="Of one fetch; each is checked as the first URL is."
    )
    timeout_s: float = Field(
        default=10.0, gt=0, description="From the first look-up to the last byte."
    )
    max_parallel: int = Field(
        default=8, gt=0, description="Fetches at a time of one Preprocessor replica."
    )


class MediaSettings(Settings):
    """Limits of one clip, and the pool that decodes it. Source of the defaults: docs/decisions/media.md."""

    allowed_roots: tuple[Path, ...] = Field(
        default=(),
        description="Folders a request may name files in, after symlinks are resolved; none by default.",
    )
    containers: tuple[str, ...] = Field(
        default=("mov", "matroska", "avi", "wav", "mp3", "png_pipe", "jpeg_pipe", "webp_pipe"),
        description=(
            "FFmpeg demuxers that may open a clip; mov is also mp4, m4a and 3gp; the pipes are pictures. "
            "npz adds what `emotion-llama preprocess` writes."
        ),
    )
    max_clip_bytes: int = Field(
        default=64 * MIB, gt=0, description="Of a file, an upload or what a URL sends."
    )
    max_streams: int = Field(default=8, gt=0, description="In one container, used or not.")
    min_side_px: int = Field(
        default=128,
        gt=0,
        description="Width and height each: decoders disagree about smaller pictures.",
    )
    max_side_px: int = Field(default=4096, gt=0, description="Width and height each.")
    max_pixels: int = Field(default=9_000_000, gt=0, description="width x height of one frame")
    max_duration_s: float = Field(
        default=60.0, gt=0, description="Of a clip, by its header and by counting."
    )
    max_packets_before_frame: int = Field(
        default=2000, gt=0, description="Of video, until the first picture comes out."
    )
    decode_timeout_s: float = Field(
        default=5.0, gt=0, description="Wall time of one clip; the decoder is killed after it."
    )
    worker_memory_bytes: int = Field(
        default=2048 * MIB, gt=0, description="Address space one decode worker may add to itself."
    )
    num_decode_workers: int = Field(
        default=2,
        gt=0,
        description="Processes of one Preprocessor replica, each busy with one clip.",
    )
    max_clips_per_worker: int = Field(
        default=1000, ge=0, description="A decode worker is replaced after so many clips; 0: never."
    )
    max_queued_clips: int = Field(
        default=128, gt=0, description="Clips waiting for a decode worker before 503."
    )
    clip_cache_bytes: int = Field(
        default=128 * MIB,
        ge=0,
        description="Decoded clips that a Preprocessor replica holds for further questions; 0: none.",
    )
    voice: bool = Field(
        default=True, description="Offer `voice=true`; its worker warms up in the background."
    )
    voice_timeout_s: float = Field(
        default=20.0,
        gt=0,
        description="Wall time of one clip's statistics; their worker is killed after it.",
    )
    urls: UrlSettings = UrlSettings()

    def without_roots(self, **changes: Any) -> "MediaSettings":
        """For a command: it may read whatever its user may, and the clips that `preprocess` wrote.

        Args:
            changes: of further fields.
        """
        own = {"allowed_roots": (Path("/"),), "containers": (*self.containers, PREPROCESSED)}
        return MediaSettings.model_validate(self.model_dump() | own | changes)


class EngineSettings(Settings):
    """What the engine is started with. Names are vLLM's."""

    dtype: Dtype = Field(default="auto", description="auto: as the checkpoint is stored.")
    max_model_len: int = Field(
        default=2048,
        gt=0,
        description="Tokens of prompt + answer; no more than LLaMA has positions.",
    )
    max_num_seqs: int = Field(
        default=64, gt=0, description="Requests that one engine runs at once."
    )
    max_num_batched_tokens: int = Field(
        default=8192,
        gt=0,
        description="Of one step: of prompts that begin and of answers that grow.",
    )
    block_size: int | None = Field(
        default=None, description="Tokens per KV block; None is 32 on CPU and 16 on GPU."
    )
    kv_cache_memory_bytes: int | None = Field(
        default=None, gt=0, description="None: 256 MiB on CPU, vLLM's own measure on GPU."
    )
    gpu_memory_utilization: float = Field(
        default=0.9, gt=0, le=1, description="Share of each GPU that the engine takes."
    )
    tensor_parallel_size: int = Field(
        default=1, gt=0, description="GPUs over which one engine spreads its weights."
    )
    enforce_eager: bool | None = Field(default=None, description="None: only on CPU.")
    num_cpu_threads: int | None = Field(
        default=None, gt=0, description="OpenMP threads of the CPU engine; None: one per core."
    )
    mm_processor_cache_gb: float = Field(
        default=0.25,
        ge=0,
        description="GiB of clips, as the model takes them, held in the engine for more questions; 0: none.",
    )
    stall_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="An engine that has requests and makes no step for so long hangs; it is replaced.",
    )
    extra_args: dict[str, Any] = Field(
        default={}, description="Any further argument of vLLM's AsyncEngineArgs."
    )


class SamplingSettings(Settings):
    """Defaults of a request that does not say: the values in the original's code."""

    temperature: Temperature = Field(default=0.2, description="0: always the most probable token.")
    top_p: TopP = Field(
        default=0.9,
        description="Only the most probable tokens that have this probability together; 1: all.",
    )
    top_k: int = Field(
        default=50, ge=0, description="Only so many of the most probable tokens; 0: all."
    )
    repetition_penalty: RepetitionPenalty = Field(
        default=1.05,
        description="Over BOS and the answer's tokens, not the prompt's; 1: none.",
    )
    max_tokens: int = Field(default=500, gt=0, description="Of an answer.")


class LimitSettings(Settings):
    """What the ingress lets in, and for how long."""

    request_timeout_s: float = Field(
        default=28.0, gt=0, description="Deadline; the documented client gives up after 30 s."
    )
    hedge_after_s: float | None = Field(
        default=None,
        gt=0,
        description=(
            "A request without an answer by then is also sent to another replica, and the first answer "
            "counts (a hedged request). None: 0.7 of request_timeout_s."
        ),
    )
    max_in_flight: int = Field(
        default=128, gt=0, description="Requests inside one ingress replica before it answers 503."
    )
    body_timeout_s: float = Field(
        default=10.0, gt=0, description="For a request's body to arrive, besides the time it earns."
    )
    min_body_bytes_per_s: int = Field(
        default=65_536,
        gt=0,
        description="A body that keeps this pace may take as long as it needs.",
    )
    max_body_bytes: int = Field(
        default=88 * MIB, gt=0, description="Of a request; 64 MiB of a clip are 86 in base64."
    )
    max_buffered_bytes: int = Field(
        default=512 * MIB,
        gt=0,
        description="Of all the bodies inside one ingress replica before it answers 503.",
    )
    max_question_chars: int = Field(
        default=20_000, gt=0, description="Of a question, and of all texts of a chat together."
    )


class AccessSettings(Settings):
    """Who may ask, and how often."""

    keys_file: Path | None = Field(
        default=None, description="JSON of `emotion-llama key`; read again when it changes."
    )
    open: bool = Field(
        default=False, description="Serve without keys although other machines can reach the port."
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="Web pages that may call, such as https://app.example.org; * is any.",
    )
    rate: Rate | None = Field(
        default=None,
        description='Per key, or per address without keys, such as "10/minute"; None: no limit.',
    )


class AnswerCacheSettings(Settings):
    """Answers that are given again. A quick answer tells that somebody asked before: off by default."""

    max_bytes: int = Field(
        default=0, ge=0, description="Of each Generator replica; 0: none. One takes 2 kB or so."
    )
    ttl_s: float = Field(default=3600.0, gt=0, description="How long an answer is kept.")


class EngineLoadSettings(Settings):
    """`policy_kwargs` of serve_app.autoscaling:EngineLoadPolicy. Reasons: docs/decisions/autoscaling.md."""

    target_seqs_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description=(
            "Share of the engine's max_num_seqs that running and waiting requests should fill. What comes "
            "while a replica starts must fit into the rest, and a batch twice as large does not answer "
            "twice as many (docs/capacity.md)."
        ),
    )
    half_rate_seqs: float = Field(
        default=16.0,
        gt=0,
        description=(
            "Requests in the batch at which an engine answers half as many a second as it ever can: "
            "fixed_s / per_request_s of docs/capacity.md. Not measured on a GPU: put in yours. Too small "
            "costs GPUs, too large takes replicas away that are busier than their batches look."
        ),
    )
    target_kv_cache_usage: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of the KV cache in use. A full one makes vLLM stop requests and redo them later.",
    )
    tolerance: float = Field(
        default=0.15,
        ge=0,
        lt=1,
        description="Share below its targets that a smaller fleet must be, not to grow again at once.",
    )
    max_upscale_factor: float = Field(
        default=4.0,
        gt=1,
        description=(
            "Replicas wanted at most for each one that runs; one more in any case. A queue that "
            "grows while replicas start would ask for many times what it needs."
        ),
    )
    max_downscale_share: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Share of the replicas given up in one downscale_delay_s; always at least one.",
    )


class TraceSettings(Settings):
    """Where spans go. Without an endpoint here or in OpenTelemetry's variables there are none."""

    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="A collector's OTLP over HTTP, such as http://collector:4318.",
    )


class AppSettings(Settings):
    """`args:` of the application in serve.yaml."""

    model: Path = Field(description="Checkpoint directory: config.json, safetensors, tokenizer.")
    model_name: str = Field(
        default="emotion-llama", description="What OpenAI's clients call the model."
    )
    parity: Parity = Field(
        default="default", description="`reference`: do as the original does (docs/fidelity.md)."
    )
    extra_ports: tuple[Annotated[int, Field(gt=0, lt=65536)], ...] = Field(
        default=(),
        description="Of `emotion-llama serve`, leading to the same server: the original had two.",
    )
    metrics_port: int | None = Field(
        default=None,
        gt=0,
        lt=65536,
        description="Of `emotion-llama serve`: Prometheus scrapes it; None: one that Ray chooses.",
    )
    legacy_errors: Literal["status", "in_band"] = Field(
        default="status",
        description="in_band: errors of the original's routes as it gave them, with status 200.",
    )
    layout: LayoutName = Field(default="chat", description="Of the prompt: serve_app/prompt.py.")
    tokenization: Tokenization = Field(
        default="4.30", description="By which version of transformers."
    )
    media: MediaSettings = MediaSettings()
    engine: EngineSettings = EngineSettings()
    sampling: SamplingSettings = SamplingSettings()
    limits: LimitSettings = LimitSettings()
    access: AccessSettings = AccessSettings()
    answer_cache: AnswerCacheSettings = AnswerCacheSettings()
    traces: TraceSettings = TraceSettings()
