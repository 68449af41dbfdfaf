"""Random toy weights in the four layouts in which users download the original.

The layouts are the published ones; every size differs from that of the recorded goldens.
"""

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sentencepiece
import torch
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
PeftNames = Literal["lora_A.weight", "lora_A.default.weight"]  # peft 0.2; 0.3 and later
LlamaFiles = Literal["safetensors shards", "safetensors", "bin shards", "bin"]
HubertFile = Literal["bin", "safetensors"]

VOCAB_SIZE = 512
LLAMA_WIDTH, LLAMA_LAYERS, LLAMA_HEADS, LLAMA_MLP = 96, 3, 3, 160
LORA_RANK = 8  # the file holds no alpha: the original's is 16, so the scaling is 2
IMAGE_SIZE, PATCH_SIZE = 448, 14  # pixels
EVA_WIDTH, EVA_HEADS, EVA_BLOCKS_USED = 48, 3, 2
EVA_BLOCKS_IN_FILE = EVA_BLOCKS_USED + 1
EVA_MLP = int(EVA_WIDTH * 4.3637)
EVA_GRID_IN_FILE = 16  # the file is of a 224-pixel model
HUBERT_WIDTH, HUBERT_LAYERS, HUBERT_HEADS, HUBERT_MLP = 64, 2, 4, 112
HUBERT_CONV_WIDTH, HUBERT_CONV_KERNELS = 32, (10, 3, 3, 3, 3, 2, 2)
HUBERT_POSITION_KERNEL, HUBERT_POSITION_GROUPS = 24, 4

CORPUS = (
    "[INST] <video><VideoHere></video> <feature><FeatureHere></feature> [/INST]",
    "The person in video says: I did not expect to see you here today.",
    "[emotion] What is the emotion expressed in this video?",
    "[reason] What are the facial expressions and vocal tone used in the video?",
    "Please determine which emotion label in the video represents the speaker.",
    "happy, sad, neutral, angry, worried, surprise, fear, contempt, doubt",
    "It costs 5$$ here, 7$$ there and 9$$$$ when nobody looks; 5$$ again.",
    "In the video the woman is smiling, her voice is calm and her words are kind.",
    "He frowns, raises his voice and turns away: the person seems angry and disappointed.",
    "视频中的人物表达了什么情绪",
    "视频中的人物说了什么 人物的情绪是开心。",
    "他的声音很平静 情绪是中性。",
)


@dataclass(frozen=True)
class Downloads:
    """What the original is put together from; `dims.json` lies beside the EVA file."""

    llama: Path
    eva: Path
    hubert: Path
    emotion_llama: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "Downloads":
        return cls(
            llama=folder / "Llama-2-7b-chat-hf",
            eva=folder / "eva_vit_g.pth",
            hubert=folder / "chinese-hubert-large",
            emotion_llama=folder / "Emoation_LLaMA.pth",  # spelt so
        )


def write_downloads(
    folder: Path,
    seed: int = 0,
    *,
    peft_names: PeftNames = "lora_A.weight",
    llama_files: LlamaFiles = "safetensors shards",
    hubert_file: HubertFile = "bin",
) -> Downloads:
    """The same seed gives the same weights in every layout."""
    downloads = Downloads.in_folder(folder)
    downloads.llama.mkdir(parents=True)
    downloads.hubert.mkdir()
    draw = Draw(seed)
    write_llama(downloads.llama, llama_tensors(draw), llama_files)
    write_tokenizer(downloads.llama)
    torch.save(half(eva_tensors(draw)), downloads.eva)
    dims = {"img": IMAGE_SIZE, "vit_heads": EVA_HEADS, "vit_depth": EVA_BLOCKS_USED}
    write_json(folder / "dims.json", {"dims": dims})
    write_hubert(downloads.hubert, hubert_tensors(draw), hubert_file)
    write_emotion_llama(downloads.emotion_llama, emotion_llama_tensors(draw), peft_names)
    return downloads


class Draw:
    """Random tensors, scaled so that every input keeps its weight in the result."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, std: float = 1.0) -> torch.Tensor:
        return torch.randn(*shape, generator=self._generator) * std

    def weight(self, *shape: int) -> torch.Tensor:
        """Outputs of unit size from inputs of unit size; the first dimension is the output's."""
        return self.normal(*shape, std=1 / math.sqrt(math.prod(shape[1:])))

    def linear(self, name: str, width_out: int, *width_in: int) -> Tensors:
        return {
            f"{name}.weight": self.weight(width_out, *width_in),
            f"{name}.bias": self.normal(width_out, std=0.3),
        }

    def norm(self, name: str, width: int) -> Tensors:
        return {
            f"{name}.weight": 1 + self.normal(width, std=0.2),
            f"{name}.bias": self.normal(width, std=0.2),
        }


def llama_tensors(draw: Draw) -> Tensors:
    """Attention is sharp and strong, the last token's own embedding weak: answers hang on the clip."""
    tensors = {
        "model.embed_tokens.weight": draw.normal(VOCAB_SIZE, LLAMA_WIDTH, std=0.3),
        "model.norm.weight": 1 + draw.normal(LLAMA_WIDTH, std=0.2),
        # Wide apart, so that the best token rarely hangs on rounding.
        "lm_head.weight": 3 * draw.weight(VOCAB_SIZE, LLAMA_WIDTH),
    }
    for number in range(LLAMA_LAYERS):
        layer = f"model.layers.{number}"
        for name, scale in (("q_proj", 2.0), ("k_proj", 2.0), ("v_proj", 1.5), ("o_proj", 1.5)):
            weight = draw.weight(LLAMA_WIDTH, LLAMA_WIDTH)
            tensors[f"{layer}.self_attn.{name}.weight"] = scale * weight
        tensors[f"{layer}.self_attn.rotary_emb.inv_freq"] = inverse_frequencies()
        tensors[f"{layer}.mlp.gate_proj.weight"] = draw.weight(LLAMA_MLP, LLAMA_WIDTH)
        tensors[f"{layer}.mlp.up_proj.weight"] = draw.weight(LLAMA_MLP, LLAMA_WIDTH)
        tensors[f"{layer}.mlp.down_proj.weight"] = draw.weight(LLAMA_WIDTH, LLAMA_MLP)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{layer}.{name}.weight"] = 1 + draw.normal(LLAMA_WIDTH, std=0.2)
    return tensors


def inverse_frequencies() -> torch.Tensor:
    """The rotary buffer that files of that time carry: (head width / 2,)."""
    head_width = LLAMA_WIDTH // LLAMA_HEADS
    frequencies: torch.Tensor = 10000.0 ** -(torch.arange(0, head_width, 2) / head_width)
    return frequencies


def eva_tensors(draw: Draw) -> Tensors:
    tensors = {
        "cls_token": draw.normal(1, 1, EVA_WIDTH),
        "pos_embed": draw.normal(1, 1 + EVA_GRID_IN_FILE**2, EVA_WIDTH, std=0.5),
        **draw.linear("patch_embed.proj", EVA_WIDTH, 3, PATCH_SIZE, PATCH_SIZE),
    }
    for number in range(EVA_BLOCKS_IN_FILE):
        block = f"blocks.{number}"
        tensors |= {
            **draw.norm(f"{block}.norm1", EVA_WIDTH),
            f"{block}.attn.q_bias": draw.normal(EVA_WIDTH, std=0.3),
            f"{block}.attn.v_bias": draw.normal(EVA_WIDTH, std=0.3),
            f"{block}.attn.qkv.weight": draw.weight(3 * EVA_WIDTH, EVA_WIDTH),
            **draw.linear(f"{block}.attn.proj", EVA_WIDTH, EVA_WIDTH),
            **draw.norm(f"{block}.norm2", EVA_WIDTH),
            **draw.linear(f"{block}.mlp.fc1", EVA_MLP, EVA_WIDTH),
            **draw.linear(f"{block}.mlp.fc2", EVA_WIDTH, EVA_MLP),
        }
    # What goes into the residual stream is faint, so that the eps of every norm shows.
    faint = ("cls_token", "pos_embed", "patch_embed", ".attn.proj", ".mlp.fc2")
    for name in tensors:
        if any(part in name for part in faint):
            tensors[name] *= 0.05
    return tensors | draw.norm("norm", EVA_WIDTH) | draw.linear("head", 10, EVA_WIDTH)


def hubert_tensors(draw: Draw) -> Tensors:
    tensors = {"masked_spec_embed": draw.normal(HUBERT_WIDTH)}
    width_in = 1
    for number, kernel in enumerate(HUBERT_CONV_KERNELS):
        layer = f"feature_extractor.conv_layers.{number}"
        tensors |= draw.linear(f"{layer}.conv", HUBERT_CONV_WIDTH, width_in, kernel)
        tensors |= draw.norm(f"{layer}.layer_norm", HUBERT_CONV_WIDTH)
        width_in = HUBERT_CONV_WIDTH
    position_in = HUBERT_WIDTH // HUBERT_POSITION_GROUPS
    direction = draw.weight(HUBERT_WIDTH, position_in, HUBERT_POSITION_KERNEL)
    lengths = direction.norm(dim=(0, 1), keepdim=True)
    tensors |= {
        **draw.norm("feature_projection.layer_norm", HUBERT_CONV_WIDTH),
        **draw.linear("feature_projection.projection", HUBERT_WIDTH, HUBERT_CONV_WIDTH),
        "encoder.pos_conv_embed.conv.bias": draw.normal(HUBERT_WIDTH, std=0.3),
        "encoder.pos_conv_embed.conv.weight_g": lengths
        * (1 + draw.normal(*lengths.shape, std=0.2)),
        "encoder.pos_conv_embed.conv.weight_v": direction,
        **draw.norm("encoder.layer_norm", HUBERT_WIDTH),
    }
    for number in range(HUBERT_LAYERS):
        layer = f"encoder.layers.{number}"
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            tensors |= draw.linear(f"{layer}.attention.{name}", HUBERT_WIDTH, HUBERT_WIDTH)
        tensors |= {
            **draw.norm(f"{layer}.layer_norm", HUBERT_WIDTH),
            **draw.linear(f"{layer}.feed_forward.intermediate_dense", HUBERT_MLP, HUBERT_WIDTH),
            **draw.linear(f"{layer}.feed_forward.output_dense", HUBERT_WIDTH, HUBERT_MLP),
            **draw.norm(f"{layer}.final_layer_norm", HUBERT_WIDTH),
        }
    for name in tensors:
        if name.endswith("bias"):  # the same for every sound, so kept small
            tensors[name] *= 0.3
    return tensors


def emotion_llama_tensors(draw: Draw) -> Tensors:
    """What training saved: adapters, projections, and leftovers that nothing at run time reads."""
    tensors: Tensors = {}
    for number in range(LLAMA_LAYERS):
        attention = f"llama_model.base_model.model.model.layers.{number}.self_attn"
        for name in ("q_proj", "v_proj"):
            tensors[f"{attention}.{name}.lora_A.weight"] = draw.weight(LORA_RANK, LLAMA_WIDTH)
            # A quarter, because the scaling of 2 comes on top.
            tensors[f"{attention}.{name}.lora_B.weight"] = draw.weight(LLAMA_WIDTH, LORA_RANK) / 4
        tensors[f"{attention}.rotary_emb.inv_freq"] = inverse_frequencies()
    for number in range(7):
        tensors |= draw.linear(f"attention.feats_prep.{number}.0", 4, HUBERT_WIDTH)
        tensors |= draw.linear(f"attention.feats_prep.{number}.3", 4, 4)
    tensors |= draw.linear("attention.attention_mlp.0", 4, 28)
    tensors |= draw.linear("attention.attention_mlp.3", 4, 4)
    tensors |= draw.linear("attention.fc_att", 7, 4) | draw.linear("attention.fc_out", 6, 4)
    projections = draw.linear("llama_proj", LLAMA_WIDTH, 4 * EVA_WIDTH)
    for number in (1, 2, 3):
        projections |= draw.linear(f"feats_llama_proj{number}", LLAMA_WIDTH, HUBERT_WIDTH)
    projections |= draw.linear("cls_tk_llama_proj", LLAMA_WIDTH, EVA_WIDTH)
    for name in projections:
        if name.endswith("bias"):  # all that serving sees of face and video
            projections[name] *= 3
    projections["feats_llama_proj3.weight"] *= 4  # features of two sounds are nearly parallel
    return tensors | projections


def write_llama(folder: Path, tensors: Tensors, files: LlamaFiles) -> None:
    write_json(
        folder / "config.json",
        {
            "_name_or_path": "meta-llama/Llama-2-7b-chat-hf",
            "architectures": ["LlamaForCausalLM"],
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": LLAMA_WIDTH,
            "initializer_range": 0.02,
            "intermediate_size": LLAMA_MLP,
            "max_position_embeddings": 4096,
            "model_type": "llama",
            "num_attention_heads": LLAMA_HEADS,
            "num_hidden_layers": LLAMA_LAYERS,
            "num_key_value_heads": LLAMA_HEADS,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-04,  # not the usual one, so that a fixed one shows
            "rope_scaling": None,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "transformers_version": "4.32.0.dev0",
            "use_cache": True,
            "vocab_size": VOCAB_SIZE,
        },
    )
    write_json(
        folder / "generation_config.json",
        {
            "bos_token_id": 1,
            "do_sample": True,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "temperature": 0.6,
            "max_length": 4096,
            "top_p": 0.9,
            "transformers_version": "4.32.0.dev0",
        },
    )
    stem, ending = ("model", "safetensors") if "safetensors" in files else ("pytorch_model", "bin")
    save: Callable[[Tensors, Path], None] = save_file if ending == "safetensors" else torch.save
    tensors = half(tensors)
    if "shards" not in files:
        save(tensors, folder / f"{stem}.{ending}")
        return
    names = sorted(tensors)
    parts = names[: len(names) // 2], names[len(names) // 2 :]
    weight_map: dict[str, str] = {}
    for number, part in enumerate(parts, start=1):
        file = f"{stem}-{number:05}-of-{len(parts):05}.{ending}"
        save({name: tensors[name] for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    total_size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
    write_json(folder / f"{stem}.{ending}.index.json", index)


def write_tokenizer(folder: Path) -> None:
    """A BPE model with byte fallback and the settings of LLaMA's own."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    tokens = {
        f"{role}_token": {
            "content": content,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
        }
        for role, content in (("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>"))
    }
    write_json(folder / "special_tokens_map.json", tokens)
    write_json(
        folder / "tokenizer_config.json",
        {
            **{role: {"__type": "AddedToken", **token} for role, token in tokens.items()},
            "clean_up_tokenization_spaces": False,
            "legacy": False,
            "model_max_length": 1000000000000000019884624838656,
            "pad_token": None,
            "padding_side": "right",
            "sp_model_kwargs": {},
            "tokenizer_class": "LlamaTokenizer",
        },
    )


def write_hubert(folder: Path, tensors: Tensors, file: HubertFile) -> None:
    num_convs = len(HUBERT_CONV_KERNELS)
    write_json(
        folder / "config.json",
        {
            "apply_spec_augment": True,
            "architectures": ["HubertModel"],
            "conv_bias": True,
            "conv_dim": [HUBERT_CONV_WIDTH] * num_convs,
            "conv_kernel": HUBERT_CONV_KERNELS,
            "conv_stride": [5, 2, 2, 2, 2, 2, 2],
            "do_stable_layer_norm": True,
            "feat_extract_activation": "gelu",
            "feat_extract_norm": "layer",
            "feat_proj_dropout": 0.0,
            "feat_proj_layer_norm": True,
            "hidden_act": "gelu",
            "hidden_size": HUBERT_WIDTH,
            "intermediate_size": HUBERT_MLP,
            "layer_norm_eps": 1e-05,
            "layerdrop": 0.1,
            "mask_feature_prob": 0.0,
            "mask_time_prob": 0.05,
            "model_type": "hubert",
            "num_attention_heads": HUBERT_HEADS,
            "num_conv_pos_embedding_groups": HUBERT_POSITION_GROUPS,
            "num_conv_pos_embeddings": HUBERT_POSITION_KERNEL,
            "num_feat_extract_layers": num_convs,
            "num_hidden_layers": HUBERT_LAYERS,
            "torch_dtype": "float32",
            "transformers_version": "4.30.0",
            "vocab_size": 32,
        },
    )
    write_json(
        folder / "preprocessor_config.json",
        {
            "do_normalize": True,
            "feature_extractor_type": "Wav2Vec2FeatureExtractor",
            "feature_size": 1,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": True,
            "sampling_rate": 16000,
        },
    )
    if file == "bin":
        torch.save(tensors, folder / "pytorch_model.bin")
        return
    # What a later torch and transformers call the two parts of the normalised weight.
    later = {"weight_g": "parametrizations.weight.original0"}
    later["weight_v"] = "parametrizations.weight.original1"
    prefix = "encoder.pos_conv_embed.conv."
    for old, new in later.items():
        tensors[prefix + new] = tensors.pop(prefix + old)
    save_file(tensors, folder / "model.safetensors")


def write_emotion_llama(file: Path, tensors: Tensors, peft_names: PeftNames) -> None:
    if peft_names == "lora_A.default.weight":
        tensors = {
            name.replace("lora_A.", "lora_A.default.").replace("lora_B.", "lora_B.default."): tensor
            for name, tensor in tensors.items()
        }
    optimizer = {
        "state": {0: {"step": torch.tensor(10.0), "exp_avg": torch.zeros(4)}},
        "param_groups": [{"lr": 1e-5, "params": [0]}],
    }
    config = {"model": {"arch": "minigpt_v2", "lora_r": LORA_RANK, "image_size": IMAGE_SIZE}}
    content = {"model": tensors, "optimizer": optimizer, "config": config}
    torch.save({**content, "scaler": None, "epoch": 0}, file)


def half(tensors: Tensors) -> Tensors:
    return {name: tensor.half() for name, tensor in tensors.items()}


def write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")
