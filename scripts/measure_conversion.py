"""Time and peak memory of `emotion-llama convert` on random downloads of the published widths.

    python scripts/measure_conversion.py [--layers 8] [--bin] [--folder DIR]

The downloads are as wide as LLaMA-2-7B, EVA ViT-g and HuBERT-large, but have few layers. Memory is the
largest resident set of the converting process, including pages of mapped files. Limit: 1.5 x the largest
shard + the largest tower.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from make_tiny_checkpoint import train_tokenizer
from safetensors.torch import load_file, save_file
from sentencepiece import sentencepiece_model_pb2
from transformers import HubertConfig, HubertModel, LlamaConfig, LlamaForCausalLM

MIB = 1 << 20
CONVERT = """
import re, sys
from serve_app.cli import main
status = main(sys.argv[1:])
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
print("PEAK", peak[1])
sys.exit(status)
"""  # measured inside the process: what a parent is told about its children includes its own peak
LAYERS_PER_SHARD = 3  # 405 MB each in half precision
LORA_RANK = 64
EVA_WIDTH, EVA_MLP, EVA_PATCH, EVA_GRID, EVA_NUM_BLOCKS = 1408, 6144, 14, 16, 40
FEATURE_SIZE, PATCHES_PER_GROUP = 1024, 4
VOCAB_SIZE = 32_000
Tensors = dict[str, torch.Tensor]


def random(*shape: int, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float32).mul_(0.02).to(dtype)


def write_llama(folder: Path, num_layers: int, as_bin: bool) -> None:
    folder.mkdir()
    config = LlamaConfig(num_hidden_layers=num_layers, vocab_size=VOCAB_SIZE)
    with torch.device("meta"):
        shapes = {n: t.shape for n, t in LlamaForCausalLM(config).state_dict().items()}
    shards = list(split(list(shapes), LAYERS_PER_SHARD * 9))
    for number, names in enumerate(shards, start=1):
        tensors = {name: random(*shapes[name]) for name in names}
        place = f"{number:05}-of-{len(shards):05}"
        if as_bin:
            torch.save(tensors, folder / f"pytorch_model-{place}.bin")
        else:
            save_file(tensors, folder / f"model-{place}.safetensors")
    config.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.model")


def write_tokenizer(file: Path) -> None:
    """Writes the tiny checkpoint's tokenizer, padded to the published number of pieces."""
    train_tokenizer(file)
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(file.read_bytes())
    for number in range(len(model.pieces), VOCAB_SIZE):
        model.pieces.add(piece=f"filler{number}", score=-float(number))
    file.write_bytes(model.SerializeToString())


def split(names: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


def write_eva(file: Path) -> None:
    width = EVA_WIDTH
    tensors = {
        "cls_token": random(1, 1, width),
        "pos_embed": random(1, EVA_GRID**2 + 1, width),
        "patch_embed.proj.weight": random(width, 3, EVA_PATCH, EVA_PATCH),
        "patch_embed.proj.bias": random(width),
    }
    for number in range(EVA_NUM_BLOCKS):
        block = {
            "attn.q_bias": random(width),
            "attn.v_bias": random(width),
            "attn.qkv.weight": random(3 * width, width),
            "attn.proj.weight": random(width, width),
            "attn.proj.bias": random(width),
            "mlp.fc1.weight": random(EVA_MLP, width),
            "mlp.fc1.bias": random(EVA_MLP),
            "mlp.fc2.weight": random(width, EVA_MLP),
            "mlp.fc2.bias": random(width),
        }
        block |= {f"{n}.{k}": random(width) for n in ("norm1", "norm2") for k in ("weight", "bias")}
        tensors |= {f"blocks.{number}.{name}": tensor for name, tensor in block.items()}
    torch.save(tensors, file)


def write_hubert(folder: Path) -> None:
    config = HubertConfig(
        hidden_size=FEATURE_SIZE,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    HubertModel(config).save_pretrained(folder, safe_serialization=False)
    if not (folder / "pytorch_model.bin").exists():  # transformers 5 writes safetensors alone
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()


def write_checkpoint(file: Path, num_layers: int, width: int = 4096) -> None:
    tensors: Tensors = {}
    for layer in range(num_layers):
        for module in ("q_proj", "v_proj"):
            prefix = f"llama_model.base_model.model.model.layers.{layer}.self_attn.{module}"
            tensors[f"{prefix}.lora_A.weight"] = random(LORA_RANK, width, dtype=torch.float32)
            tensors[f"{prefix}.lora_B.weight"] = random(width, LORA_RANK, dtype=torch.float32)
    inputs = {
        "llama_proj": EVA_WIDTH * PATCHES_PER_GROUP,
        "cls_tk_llama_proj": EVA_WIDTH,
        **{f"feats_llama_proj{n}": FEATURE_SIZE for n in (1, 2, 3)},
    }
    for name, width_in in inputs.items():
        tensors[f"{name}.weight"] = random(width, width_in, dtype=torch.float32)
        tensors[f"{name}.bias"] = random(width, dtype=torch.float32)
    torch.save({"model": tensors, "optimizer": {}, "epoch": 0}, file)


def largest(folder: Path, pattern: str) -> float:
    return max(path.stat().st_size for path in folder.glob(pattern)) / MIB


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--bin", action="store_true", help="LLaMA as pytorch_model-*.bin")
    parser.add_argument("--folder", type=Path, help="for the files; default: the temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        write_llama(folder / "llama", args.layers, args.bin)
        write_eva(folder / "eva.pth")
        write_hubert(folder / "hubert")
        write_checkpoint(folder / "checkpoint.pth", args.layers)
        shard = largest(folder / "llama", "*model-*")
        tower = max(largest(folder, "eva.pth"), largest(folder / "hubert", "*.bin"))
        total = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / MIB
        print(f"inputs {total:.0f} MiB; largest shard {shard:.0f}, largest tower {tower:.0f} MiB")
        command = [sys.executable, "-c", CONVERT, "convert"]
        for name in ("llama", "eva", "hubert", "checkpoint"):
            suffix = ".pth" if name in ("eva", "checkpoint") else ""
            command += [f"--{name}", str(folder / f"{name}{suffix}")]
        started = time.perf_counter()
        run = subprocess.run(
            [*command, "--out", str(folder / "out")], stdout=subprocess.PIPE, text=True, check=True
        )
        seconds = time.perf_counter() - started
        peak = int(run.stdout.split("PEAK")[-1]) / 1024
        written = sum(p.stat().st_size for p in (folder / "out").iterdir()) / MIB
        limit = 1.5 * shard + tower
        manifest = json.loads((folder / "out" / "manifest.json").read_text())
        print(f"wrote {written:.0f} MiB, {len(manifest['files'])} files in {seconds:.1f} s")
        print(f"peak resident memory {peak:.0f} MiB, limit {limit:.0f} MiB")
    return 0 if peak <= limit else 1


if __name__ == "__main__":
    sys.exit(main())
