"""Compares the product with recordings of the original: python scripts/check_parity.py GOLDENS --clips DIR

GOLDENS holds weights/ in the published layouts and golden.json, golden.npz, eval.json, eval.npz, tf435/ as
they were recorded from the original's code. Everything goes through the commands a user has: convert,
preprocess and ask in float32; arrays through scripts/clip_arrays.py. Clips whose mp4 is not in DIR start from
the recorded frame and samples. Prints a line for each check; exit status 1 if one fails.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

TIE = 1e-4  # recorded top-2 margins below this may come in either order
NUM_TOKENS = 48
PENALTIES = {"rp100": 1.0, "rp105": 1.05}
RECORDINGS = {"4.30": "golden.json", "4.35": "tf435/golden.json"}
INSTRUCTION_START = "<video><VideoHere></video> <feature><FeatureHere></feature> "
CLIP_ARRAYS = Path(__file__).with_name("clip_arrays.py")
Row = dict[str, Any]


@dataclass(frozen=True)
class Expected:
    """What the original answered to one request."""

    segment_ids: list[list[int]] | None
    token_ids: list[int]
    text: str
    margins: list[float] | None


class Checks:
    """Prints each result as it comes and remembers whether all were good."""

    def __init__(self) -> None:
        self.all_good = True

    def add(self, name: str, is_good: bool, seen: str) -> None:
        self.all_good &= is_good
        print(f"{'ok  ' if is_good else 'FAIL'}  {name}: {seen}", flush=True)


SOME_FAILED = 3  # exit status of `ask --requests`: its output says which requests failed, and why


def emotion_llama(*arguments: str | Path) -> str:
    """Runs a command and returns what it prints; shows its stderr only if it fails."""
    command = [sys.executable, "-m", "serve_app.cli", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode not in (0, SOME_FAILED):
        raise SystemExit(
            f"emotion-llama {arguments[0]} exited with {run.returncode}:\n{run.stderr}"
        )
    return run.stdout


def convert(weights: Path, out: Path) -> None:
    downloads = {
        "llama": weights / "Llama-2-7b-chat-hf",
        "eva": weights / "eva_vit_g.pth",
        "hubert": weights / "chinese-hubert-large",
        "checkpoint": weights / "Emoation_LLaMA.pth",
    }
    flags = [word for name, path in downloads.items() for word in (f"--{name}", path)]
    emotion_llama("convert", *flags, "--out", out, "--dtype", "fp32")


class Goldens:
    """The recordings, and files of their clips for requests to name."""

    def __init__(self, folder: Path, clips: Path, work: Path) -> None:
        self.folder, self.clips, self.work = folder, clips, work
        self.arrays = dict(np.load(folder / "golden.npz"))
        self.names = sorted({key.split("/")[0] for key in self.arrays})
        for name in self.names:
            np.savez(
                work / f"{name}.npz",
                image_u8=self.arrays[f"{name}/image_u8"],
                waveform_i16=self.arrays[f"{name}/audio_i16"],
            )

    def mp4(self, name: str) -> Path | None:
        path = self.clips / f"{name}.mp4"
        return path if path.is_file() else None

    def serving_requests(self) -> Iterator[tuple[Row, Expected]]:
        for tokenization, file in RECORDINGS.items():
            for request in json.loads((self.folder / file).read_text())["requests"]:
                for run, penalty in PENALTIES.items():
                    recorded = request["out"][run]
                    row = {
                        "clip": str(
                            self.mp4(request["clip"]) or self.work / f"{request['clip']}.npz"
                        ),
                        "question": request["question"],
                        "tokenization": tokenization,
                        "repetition-penalty": penalty,
                    }
                    expected = Expected(
                        request["segment_ids"],
                        recorded["ids"][1:],  # without the BOS that generate() starts from
                        recorded["text"],
                        recorded["top2_margin_per_step"],
                    )
                    yield row, expected

    def evaluation_requests(self) -> Iterator[tuple[Row, Expected]]:
        """Requests about clips whose mp4 exists: eval.npz has no frames to start from instead."""
        recorded = json.loads((self.folder / "eval.json").read_text())
        features = np.load(self.folder / "eval.npz")["video_features"]
        for index, name in enumerate(recorded["clips"]):
            clip = self.mp4(name)
            if clip is None:
                continue
            np.savez(self.work / f"features{index}.npz", video_features=features[index])
            row = {
                "clip": str(clip),
                "question": recorded["instruction_input"][index].removeprefix(INSTRUCTION_START),
                "layout": "evaluation",
                "features": str(self.work / f"features{index}.npz"),
                "repetition-penalty": 1.0,
            }
            ids = recorded["output_ids"][index][1:]
            yield row, Expected(None, ids, recorded["answers"][index], None)


def check_answers(
    checks: Checks, model: Path, goldens: Goldens, concurrency: int, name: str
) -> None:
    asked = [*goldens.serving_requests(), *goldens.evaluation_requests()]
    file = goldens.work / "requests.jsonl"
    rows = (row | {"temperature": 0, "max-tokens": NUM_TOKENS} for row, _ in asked)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    printed = emotion_llama(
        *("ask", "--requests", file, "--model", model, "--dtype", "float32"),
        *("--parity", "reference", "--concurrency", str(concurrency)),
    )
    num_good = 0
    for (row, expected), line in zip(asked, printed.splitlines(), strict=True):
        complaint = compare(json.loads(line), expected)
        num_good += not complaint
        if complaint:
            checks.add(f"  {row}", False, complaint)
    seen = f"{num_good} of {len(asked)} requests equal in prompt ids, token ids and text"
    checks.add(f"answers, {name}", num_good == len(asked), seen)


def compare(answer: Row, expected: Expected) -> str:
    """What differs, as text; empty if nothing does."""
    if "error" in answer:
        return str(answer)
    if expected.segment_ids is not None:
        prompt = [token for token in answer["prompt_token_ids"] if token != 0]
        if prompt != [token for segment in expected.segment_ids for token in segment if token]:
            return "prompt ids differ"
    ids, recorded = answer["token_ids"], expected.token_ids
    step = next((i for i, (a, b) in enumerate(zip(ids, recorded, strict=False)) if a != b), None)
    if step is not None and expected.margins is not None and expected.margins[step] < TIE:
        return ""
    if ids != recorded:
        return f"token ids differ at step {step}"
    return "" if answer["text"] == expected.text else "text differs"


def check_media(checks: Checks, goldens: Goldens) -> None:
    for name in goldens.names:
        clip = goldens.mp4(name)
        if clip is None:
            continue
        out = goldens.work / f"{name}-decoded.npz"
        emotion_llama("preprocess", clip, "--audio-mode", "reference", "--out", out)
        ours = np.load(out)
        frame, samples = goldens.arrays[f"{name}/image_u8"], goldens.arrays[f"{name}/audio_i16"]
        same = np.array_equal(ours["image_u8"], frame)
        checks.add(f"image_u8 of {name}", same, "identical" if same else "differs")
        waveform = ours["waveform_i16"]
        if len(waveform) != len(samples):
            checks.add(f"waveform of {name}", False, f"{len(waveform)} samples, not {len(samples)}")
            continue
        distance = np.abs(waveform.astype(int) - samples.astype(int))
        share = float(np.mean(distance <= 2))
        seen = (
            f"{len(samples)} samples, {share:.4%} within 2 LSB, {np.mean(distance == 0):.4%} equal"
        )
        checks.add(f"waveform of {name}", share >= 0.99, seen)


def check_arrays(checks: Checks, model: Path, goldens: Goldens) -> None:
    inputs = {
        f"{name}/{kind}": goldens.arrays[f"{name}/{kind}"]
        for name in goldens.names
        for kind in ("image_u8", "audio_i16")
    }
    marker = json.loads((model / "config.json").read_text())["video_token_index"]
    for request in json.loads((goldens.folder / "golden.json").read_text())["requests"]:
        before, after = request["segment_ids"]
        key = f"{request['clip']}/p{request['prompt_index']}/prompt_ids"
        inputs[key] = np.array([*before, marker, *after])
    files = (goldens.work / "inputs.npz", goldens.work / "arrays.npz")
    np.savez(files[0], **inputs)
    command = [sys.executable, str(CLIP_ARRAYS), str(model), *map(str, files)]
    subprocess.run(command, check=True, capture_output=True)
    ours = np.load(files[1])
    limits = {"image_emb": 2e-5, "logits0": 1e-4, "sample_probs0": 1e-4}
    for kind, limit in limits.items():
        pairs = [(ours[key], goldens.arrays[key]) for key in ours if key.endswith(f"/{kind}")]
        worst = max(float(np.abs(a - b).max()) for a, b in pairs)
        seen = f"largest difference {worst:.2g} over {len(pairs)} arrays, limit {limit:g}"
        checks.add(kind, worst <= limit, seen)
    keys = [f"{name}/audio_feature" for name in goldens.names]
    worst = max(
        float(np.linalg.norm(ours[k] - goldens.arrays[k]) / np.linalg.norm(goldens.arrays[k]))
        for k in keys
    )
    checks.add(
        "audio_feature", worst <= 1e-3, f"largest relative difference {worst:.2g}, limit 0.001"
    )
    check_last_norm(checks, model, goldens)


def check_last_norm(checks: Checks, model: Path, goldens: Goldens) -> None:
    """Checks `ln_vision` on the recorded output of the blocks: its eps is not that of the blocks' norms."""
    eps = json.loads((model / "config.json").read_text())["vision_post_norm_eps"]
    worst = 0.0
    for name in goldens.names:
        blocks = torch.from_numpy(goldens.arrays[f"{name}/vit_out"])
        normed = torch.nn.functional.layer_norm(blocks, blocks.shape[-1:], eps=eps).numpy()
        worst = max(worst, float(np.abs(normed - goldens.arrays[f"{name}/ln_vision_out"]).max()))
    checks.add("ln_vision of vit_out", worst <= 1e-6, f"largest difference {worst:.2g}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("goldens", type=Path)
    parser.add_argument("--clips", type=Path, required=True)
    args = parser.parse_args()
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = work / "model"
        convert(args.goldens / "weights", model)
        goldens = Goldens(args.goldens, args.clips, work)
        check_media(checks, goldens)
        check_arrays(checks, model, goldens)
        check_answers(checks, model, goldens, concurrency=64, name="in one batch")
        check_answers(checks, model, goldens, concurrency=1, name="one by one")
    return 0 if checks.all_good else 1


if __name__ == "__main__":
    sys.exit(main())
