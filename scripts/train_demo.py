"""Trains the demonstration checkpoint: python scripts/train_demo.py OUT

Trains on drawn faces and synthetic voices and writes a few MB in the plugin's layout, with a model card that
shows the results of `emotion-llama evaluate demo`. Every random number comes from the seed: the same seed
gives the same files, byte for byte, on the same kind of processor. It takes about 24 minutes on two cores.
"""

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from demo.architecture import IMAGE_SIZE, demo_config, save_weights
from demo.card import write_card
from demo.data import make_faces, make_voices
from demo.language_stage import make_features, train_language_model
from demo.tower_stages import TowerPlan, Towers, train_towers
from demo.vocabulary import VOCAB_SIZE, write_tokenizer
from torch import nn

from serve_app.checkpoint import TOKENIZER, write_manifest
from serve_app.cli import main as emotion_llama
from serve_app.cli.exit_status import LIMIT_MISSED
from serve_app.convert.tokenizer_files import write_tokenizer_files
from serve_app.model.config import EmotionLlamaConfig
from serve_app.model.weights import build_modules
from serve_app.tokenizer import Tokenizer

NUM_THREADS = 2
LANGUAGE_SEED = 2_000_000  # so that faces and voices of stage 3 differ from those of the towers
LANGUAGE_FACES, LANGUAGE_VOICES = 6000, 3500
LANGUAGE_STEPS = 1500
QUICK = TowerPlan(num_faces=128, face_steps=3, num_voices=64, voice_steps=3, num_held_out=32)
QUICK_LANGUAGE = (128, 96, 3)


def train(out: Path, work: Path, seed: int, quick: bool) -> None:
    """Writes config, weights, tokenizer and manifest into the folder `out`."""
    torch.set_num_threads(NUM_THREADS)
    write_tokenizer(out / TOKENIZER, seed)
    write_tokenizer_files(out)
    config = demo_config(VOCAB_SIZE)
    config.save_pretrained(out)
    towers = train_towers(config, QUICK if quick else TowerPlan(), seed, work)
    modules = train_whole(config, Tokenizer(out), towers, seed, quick)
    save_weights(modules, out / "model.safetensors")
    write_manifest(out, {"made_by": f"{Path(__file__).name}, seed {seed}", "seed": seed})


def train_whole(
    config: EmotionLlamaConfig, tokenizer: Tokenizer, towers: Towers, seed: int, quick: bool
) -> dict[str, nn.Module]:
    """Runs stage 3 on the finished towers."""
    torch.manual_seed(seed)
    modules = build_modules(config)
    vision: Any = modules["vision_tower"]
    vision.post_layernorm.eps = config.vision_post_norm_eps
    for name, path in (("vision_tower", towers.face), ("audio_tower", towers.voice)):
        modules[name].load_state_dict(torch.load(path))
        modules[name].eval()
    num_faces, num_voices, steps = (
        QUICK_LANGUAGE if quick else (LANGUAGE_FACES, LANGUAGE_VOICES, LANGUAGE_STEPS)
    )
    features = make_features(
        modules["vision_tower"],
        modules["audio_tower"],
        make_faces(num_faces, seed + LANGUAGE_SEED, IMAGE_SIZE),
        make_voices(num_voices, seed + LANGUAGE_SEED),
        seed,
    )
    train_language_model(
        config, modules["language_model"], modules["projectors"], features, tokenizer, steps, seed
    )
    return modules


def measure(directory: Path) -> dict[str, Any]:
    """The report of `evaluate demo`, with an engine on this directory."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        options = ["--model", str(directory), "--dtype", "float32", "--out", str(out)]
        status = emotion_llama(["evaluate", "demo", *options])
        if status not in (0, LIMIT_MISSED):  # a missed limit is shown on the card
            raise SystemExit(f"the checkpoint could not be measured; exit status {status}")
        report: dict[str, Any] = json.loads(out.read_text())
        return report


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to create")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="a few steps and no card, to try the script itself"
    )
    parser.add_argument("--work", type=Path, help="keeps finished towers, to go on from them")
    args = parser.parse_args()
    started = time.monotonic()
    if args.out.exists():
        raise SystemExit(f"{args.out} exists already; remove it or name another folder")
    part = args.out.with_suffix(".part")  # an interrupted run leaves nothing that looks finished
    work = args.work or args.out.with_suffix(".work")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    work.mkdir(parents=True, exist_ok=True)
    train(part, work, args.seed, args.quick)
    print(f"trained in {time.monotonic() - started:.0f} s", flush=True)
    if not args.quick:
        (part / "README.md").write_text(write_card(measure(part), args.seed))
    part.rename(args.out)
    if args.work is None:
        shutil.rmtree(work)
    print(f"wrote {args.out} in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
