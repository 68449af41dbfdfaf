"""The checkpoint's config.json as a transformers config, and the numbers derived from it."""

from typing import Any

from transformers import AutoConfig, Blip2VisionConfig, HubertConfig, LlamaConfig, PretrainedConfig

NUM_FEATURE_POSITIONS = 3  # face, temporal, audio
NUM_CLS_POSITIONS = 1


class EmotionLlamaConfig(PretrainedConfig):
    """EVA ViT-g + HuBERT + LLaMA, joined by five linear projections.

    Args:
        text_config: LLaMA.
        vision_config: EVA ViT-g, expressed as a Blip2VisionConfig (same blocks, qkv bias, erf GELU).
        audio_config: HuBERT; its hidden_size is the width of an audio feature.
        video_token_index: id of the clip marker in a prompt; None means the first id past the
            vocabulary, so that the embedding table keeps its published shape.
        face_config: an optional tower for the face, any transformers vision model (a FaceMAE encoder
            is a ViT); None: clips have a ready feature, or zeros are used as in the released demo.
        temporal_config: an optional tower for movement, such as a VideoMAEConfig.
        face_feature_size: width of a face feature; a face tower's hidden_size where there is one.
        temporal_feature_size: width of a temporal feature, likewise.
        patches_per_group: neighbouring patches (in raster order) that become one position.
        vision_post_norm_eps: eps of the norm after the vision tower. The original's `ln_vision` is a
            plain LayerNorm (1e-5), while the blocks inside use vision_config.layer_norm_eps (1e-6).
    """

    model_type = "emotion_llama"
    sub_configs = {  # noqa: RUF012 - the name and form transformers expects
        "text_config": LlamaConfig,
        "vision_config": Blip2VisionConfig,
        "audio_config": HubertConfig,
    }

    def __init__(
        self,
        text_config: dict[str, Any] | LlamaConfig | None = None,
        vision_config: dict[str, Any] | Blip2VisionConfig | None = None,
        audio_config: dict[str, Any] | HubertConfig | None = None,
        face_config: dict[str, Any] | PretrainedConfig | None = None,
        temporal_config: dict[str, Any] | PretrainedConfig | None = None,
        video_token_index: int | None = None,
        face_feature_size: int = 1024,
        temporal_feature_size: int = 1024,
        patches_per_group: int = 4,
        vision_post_norm_eps: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        self.text_config = _as_config(LlamaConfig, text_config)
        self.vision_config = _as_config(Blip2VisionConfig, vision_config)
        self.audio_config = _as_config(HubertConfig, audio_config)
        if video_token_index is None:
            video_token_index = self.text_config.vocab_size
        self.video_token_index = video_token_index
        self.face_config = _as_tower_config(face_config)
        self.temporal_config = _as_tower_config(temporal_config)
        self.face_feature_size = _hidden_size(self.face_config, face_feature_size)
        self.temporal_feature_size = _hidden_size(self.temporal_config, temporal_feature_size)
        self.patches_per_group = patches_per_group
        self.vision_post_norm_eps = vision_post_norm_eps
        super().__init__(**kwargs)

    @property
    def image_size(self) -> int:
        """Height and width of the frame, in pixels."""
        return int(self.vision_config.image_size)

    @property
    def num_patch_groups(self) -> int:
        """256 at 448 px: 32 x 32 patches of 14 px, four to a group."""
        num_patches = (self.image_size // self.vision_config.patch_size) ** 2
        num_groups, rest = divmod(num_patches, self.patches_per_group)
        if rest:
            raise ValueError(
                f"{num_patches} patches do not divide into groups of {self.patches_per_group}"
            )
        return num_groups

    @property
    def num_clip_positions(self) -> int:
        """Embeddings one clip contributes: 260 at 448 px."""
        return self.num_patch_groups + NUM_FEATURE_POSITIONS + NUM_CLS_POSITIONS

    @property
    def audio_feature_size(self) -> int:
        """Width of a ready audio feature: HuBERT's hidden size."""
        return int(self.audio_config.hidden_size)


def tower_input_shape(tower: PretrainedConfig) -> tuple[int, ...]:
    """Input shape of a face or temporal tower: (channels, S, S), after num_frames for video models."""
    picture = (tower.num_channels, tower.image_size, tower.image_size)
    num_frames = getattr(tower, "num_frames", None)
    return picture if num_frames is None else (num_frames, *picture)


def _hidden_size(tower: PretrainedConfig | None, otherwise: int) -> int:
    return otherwise if tower is None else tower.hidden_size


def _as_tower_config(value: dict[str, Any] | PretrainedConfig | None) -> PretrainedConfig | None:
    return AutoConfig.for_model(**value) if isinstance(value, dict) else value


def _as_config(
    cls: type[PretrainedConfig], value: dict[str, Any] | PretrainedConfig | None
) -> PretrainedConfig:
    if isinstance(value, PretrainedConfig):
        return value
    # `architectures` is what init_vllm_registered_model looks LLaMA up by.
    defaults = {"architectures": ["LlamaForCausalLM"]} if cls is LlamaConfig else {}
    return cls(**{**defaults, **(value or {})})
