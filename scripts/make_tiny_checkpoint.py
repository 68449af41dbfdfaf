"""Writes a tiny random checkpoint in the plugin's layout: python scripts/make_tiny_checkpoint.py OUT

It has the same architecture and the real 260 clip positions at 448 px, with a few hundred kB of weights drawn
from a seed. It exercises every part of the system; its answers mean nothing.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from sentencepiece import SentencePieceTrainer
from transformers import Blip2VisionConfig, HubertConfig, LlamaConfig

from serve_app.checkpoint import TOKENIZER, write_manifest
from serve_app.convert.tokenizer_files import write_tokenizer_files
from serve_app.model import ARCHITECTURE
from serve_app.model.config import EmotionLlamaConfig
from serve_app.model.weights import build_modules

VOCAB_SIZE = 512
HIDDEN_SIZE = 64
NUM_BYTES = 256
HEAD_DIM = 32  # the smallest that vLLM's CPU attention supports
NUM_SPECIAL_TOKENS = 3  # <unk>, <s>, </s>: ids 0, 1, 2, as LLaMA has them
SINGLE_POSITION_SCALE = 16
CORPUS = [
    "[INST] <video></video> <feature><FeatureHere></feature> [/INST] [emotion] [reason]",
    "What is the emotion expressed in this video? The person in video says: happy sad neutral angry",
    "What are the facial expressions and vocal tone used in the video? worried surprise fear doubt",
    "The person in the video displays furrowed brows and a tense face, indicating contempt or anger.",
    "What is the intended meaning behind the words? Which emotion does this reflect?",
    "The vocal tone is sharp and emphatic, with raised volume; the voice trembles or stays even.",
    "Describe the person's emotional state in detail.",
]


def tiny_config() -> EmotionLlamaConfig:
    """The dimensions. Weights are drawn with std 1/sqrt(width), so that every input moves the logits."""
    std = HIDDEN_SIZE**-0.5
    num_heads = HIDDEN_SIZE // HEAD_DIM
    return EmotionLlamaConfig(
        architectures=[ARCHITECTURE],
        dtype="float32",
        text_config=LlamaConfig(
            architectures=["LlamaForCausalLM"],
            hidden_size=HIDDEN_SIZE,
            intermediate_size=160,
            num_hidden_layers=2,
            num_attention_heads=num_heads,
            num_key_value_heads=num_heads,
            vocab_size=VOCAB_SIZE,
            max_position_embeddings=4096,
            rms_norm_eps=1e-5,
            initializer_range=std,
            bos_token_id=1,
            eos_token_id=2,
        ),
        vision_config=Blip2VisionConfig(
            hidden_size=HIDDEN_SIZE,
            intermediate_size=160,
            num_hidden_layers=2,
            num_attention_heads=num_heads,
            image_size=448,
            patch_size=14,
            initializer_range=std,
        ),
        audio_config=HubertConfig(
            hidden_size=HIDDEN_SIZE,
            intermediate_size=160,
            num_hidden_layers=2,
            num_attention_heads=num_heads,
            conv_dim=(32,) * 7,
            conv_bias=True,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            mask_time_prob=0.0,  # no SpecAugment mask embedding in the checkpoint
            mask_feature_prob=0.0,
            initializer_range=std,
        ),
        face_feature_size=HIDDEN_SIZE,
        temporal_feature_size=HIDDEN_SIZE,
    )


def tiny_weights(config: EmotionLlamaConfig, seed: int) -> dict[str, torch.Tensor]:
    """Random tensors under the names serve_app/model/weights.py documents."""
    torch.manual_seed(seed)
    modules: dict[str, Any] = build_modules(config)
    for parameter in modules["vision_tower"].embeddings.parameters():
        torch.nn.init.normal_(parameter, std=config.vision_config.initializer_range)
    with torch.no_grad():
        # Even one of 260 positions must change the answer, or tests could not detect a wrong projection.
        for name in ("face", "temporal", "audio", "cls"):
            for parameter in getattr(modules["projectors"], name).parameters():
                parameter *= SINGLE_POSITION_SCALE
        # Control and byte tokens never win: answers are printable words of full length.
        modules["language_model"].lm_head.weight[: NUM_SPECIAL_TOKENS + NUM_BYTES] = 0
    return {
        f"{prefix}.{name}": tensor.contiguous().clone()
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def train_tokenizer(out: Path) -> None:
    """A sentencepiece model in LLaMA's form: BPE with byte fallback, VOCAB_SIZE pieces."""
    SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_prefix=str(out.with_suffix("")),
        model_type="bpe",
        vocab_size=VOCAB_SIZE,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    out.with_suffix(".vocab").unlink()


def write_tiny_checkpoint(out: Path, seed: int = 0) -> None:
    """Write config.json, model.safetensors, the tokenizer and the manifest into the new folder `out`."""
    part = out.with_suffix(".part")  # so that an interrupted run leaves nothing that looks finished
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    config = tiny_config()
    train_tokenizer(part / TOKENIZER)
    write_tokenizer_files(part)
    config.save_pretrained(part)
    save_file(tiny_weights(config, seed), part / "model.safetensors", metadata={"format": "pt"})
    write_manifest(part, {"made_by": f"{Path(__file__).name}, seed {seed}"})
    part.rename(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to create")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.out.exists():
        raise SystemExit(f"{args.out} exists already; remove it or name another folder")
    write_tiny_checkpoint(args.out, args.seed)
    print(f"wrote {args.out}: random weights, so its words mean nothing")


if __name__ == "__main__":
    main()
