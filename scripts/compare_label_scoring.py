"""Compares two ways to score the nine labels of a clip: python scripts/compare_label_scoring.py MODEL

`steps` is what `Engine.score` does: one request per distinct label prefix, which reads the prompt from the
prefix cache. `whole` sends each label behind the prompt and asks for `prompt_logprobs`: vLLM
then does not read the cache.
"""

import argparse
import asyncio
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib.measuring import median_and_range
from vllm import SamplingParams

from serve_app.bundled import SAMPLE
from serve_app.check import open_checkpoint
from serve_app.emotions import NINE, emotion_question
from serve_app.engine.engine import Engine
from serve_app.engine.label_trie import normalise
from serve_app.media.decode import decode_clip
from serve_app.prompt import encode_prompt
from serve_app.settings import EngineSettings, MediaSettings
from serve_app.types import NO_SOURCE, Clip, DecodeOptions, PromptOptions, ScoreRequest

QUESTION = emotion_question(NINE)


async def steps(engine: Engine, clip: Clip) -> dict[str, float]:
    return dict((await engine.score(clip, ScoreRequest(NO_SOURCE, QUESTION, NINE))).probabilities)


async def whole(engine: Engine, clip: Clip) -> dict[str, float]:
    encoded = encode_prompt(PromptOptions(), QUESTION, engine._tokenizer)

    async def one(label: str) -> float:
        tokens = [*engine._tokenizer.encode([label], "4.30"), engine._tokenizer.eos_id]
        prompt = replace(encoded, after_clip=[*encoded.after_clip, *tokens])
        params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
        output: Any = await engine._run(prompt, clip, params, "whole")
        last = zip(tokens, output.prompt_logprobs[-len(tokens) :], strict=True)
        return sum(float(logprobs[token].logprob) for token, logprobs in last)

    values = await asyncio.gather(*map(one, NINE))
    shares, _ = normalise(dict(zip(NINE, values, strict=True)))
    return shares


async def compare(model: Path, num_rounds: int) -> None:
    checkpoint = open_checkpoint(model)
    engine = Engine(checkpoint, EngineSettings(dtype="float32"))
    clip = decode_clip(SAMPLE.read_bytes(), DecodeOptions(), MediaSettings(), checkpoint.image_size)
    times_ms: dict[str, list[float]] = {"steps": [], "whole": []}
    differences = []
    for number in range(num_rounds + 1):
        results = []
        for name, score in (("steps", steps), ("whole", whole)):
            fresh = replace(clip, content_sha256=f"{name} {number}")  # in no cache
            started = time.perf_counter()
            results.append(await score(engine, fresh))
            if number > 0:  # the first round warms up
                times_ms[name].append((time.perf_counter() - started) * 1e3)
        one, other = results
        differences.append(max(math.fabs(one[label] - other[label]) for label in NINE))
    engine.shutdown()
    for name, values in times_ms.items():
        print(f"{name} in ms: {median_and_range(values, 0)}")
    pairs = zip(times_ms["whole"], times_ms["steps"], strict=True)
    ratios = [whole_ms / steps_ms for whole_ms, steps_ms in pairs]
    print(f"whole / steps: {median_and_range(ratios, 1)}")
    print(f"largest difference of a probability: {max(differences):.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    asyncio.run(compare(args.model, args.rounds))


if __name__ == "__main__":
    main()
