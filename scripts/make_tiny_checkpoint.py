"""Write a tiny random checkpoint in the plugin's layout: python scripts/make_tiny_checkpoint.py OUT

Same architecture and the real 260 clip positions at 448 px, a few hundred kB of weights drawn from a seed.
It exercises every part of the system; its words mean nothing.
"""

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers
from transformers import (
    Blip2VisionConfig,
    Blip2VisionModel,
    HubertConfig,
    HubertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from serve_app.model import ARCHITECTURE
from serve_app.model.config import EmotionLlamaConfig
from serve_app.model.projectors import ClipProjectors

VOCAB_SIZE = 512
HIDDEN_SIZE = 64
NUM_BYTES = 256
HEAD_DIM = 32  # the smallest vLLM's CPU attention takes
SPECIAL_TOKENS = ["<unk>", "<s>", "</s>"]  # ids 0, 1, 2, as LLaMA has them
SINGLE_POSITION_SCALE = 16
CLIP_MARKER = "<VideoHere>"
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
    """Random tensors under the names serve_app/model/model.py documents."""
    torch.manual_seed(seed)
    modules = {
        "language_model": LlamaForCausalLM(config.text_config),
        "vision_tower": Blip2VisionModel(config.vision_config),
        "audio_tower": HubertModel(config.audio_config),
        "projectors": ClipProjectors(config),
    }
    for parameter in modules["vision_tower"].embeddings.parameters():
        torch.nn.init.normal_(parameter, std=config.vision_config.initializer_range)
    with torch.no_grad():
        # One position of 260 must still move the answer, or tests could not see a wrong projection.
        for name in ("face", "temporal", "audio", "cls"):
            for parameter in getattr(modules["projectors"], name).parameters():
                parameter *= SINGLE_POSITION_SCALE
        # Control and byte tokens never win: answers are printable words of full length.
        modules["language_model"].lm_head.weight[: len(SPECIAL_TOKENS) + NUM_BYTES] = 0
    return {
        f"{prefix}.{name}": tensor.contiguous().clone()
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-fallback BPE of VOCAB_SIZE pieces in LLaMA's form; the marker is the first id past them."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(NUM_BYTES)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", left=1),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=SPECIAL_TOKENS + byte_tokens, show_progress=False
    )
    # One line per word, so that merges stay inside words as LLaMA's pieces do.
    tokenizer.train_from_iterator((word for line in CORPUS for word in line.split()), trainer)
    missing = VOCAB_SIZE - tokenizer.get_vocab_size()
    assert missing == 0, f"the corpus is {missing} pieces short of {VOCAB_SIZE}"
    # Bytes were listed as special so that the trainer keeps their ids; as special tokens they would be
    # dropped from decoded text, so the model is loaded again without that mark.
    fresh = Tokenizer(tokenizer.model)
    fresh.normalizer, fresh.decoder = tokenizer.normalizer, tokenizer.decoder
    fresh.add_special_tokens(
        [AddedToken(text, normalized=False, special=True) for text in SPECIAL_TOKENS]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=fresh,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=[AddedToken(CLIP_MARKER, normalized=False, special=True)],
        clean_up_tokenization_spaces=False,
    )


def write_tiny_checkpoint(out: Path, seed: int = 0) -> None:
    """Write config.json, model.safetensors and the tokenizer into the new folder `out`."""
    part = out.with_suffix(".part")  # a run that is interrupted leaves nothing that looks finished
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    config = tiny_config()
    tokenizer = tiny_tokenizer()
    marker_id = tokenizer.convert_tokens_to_ids(CLIP_MARKER)
    assert marker_id == config.video_token_index, f"{CLIP_MARKER} got id {marker_id}"
    tokenizer.save_pretrained(part)
    config.save_pretrained(part)
    save_file(tiny_weights(config, seed), part / "model.safetensors", metadata={"format": "pt"})
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
