"""The original's path in plain PyTorch, float32 on the CPU: the oracle of the fidelity tests.

Computes from the four downloads, at any size, what the research code computes with them.
Written after what was observed of that code; shares nothing with serve_app.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from parity.downloads import Downloads, Tensors
from parity.slow_tokenizer import SlowTokenizer, Version
from PIL import Image
from safetensors.torch import load_file
from transformers import HubertConfig, HubertModel, LlamaConfig, LlamaForCausalLM

BOS_ID, EOS_ID = 1, 2
PIXEL_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
PIXEL_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
EVA_EPS = 1e-6
LN_VISION_EPS = 1e-5  # its weights are in no file: 1 and 0
PATCHES_PER_ROW = 4  # neighbours in raster order, not a square
NUM_FEATURE_ROWS = 4  # face, video, audio, cls: the last rows of a clip
LORA_ALPHA = 16
MAX_SERVING_ROWS = 1500  # max_length 2000 less max_new_tokens 500; the cut is from the left

VIDEO, FEATURE = "<VideoHere>", "<FeatureHere>"
CLIP_TEXT = f"<video>{VIDEO}</video> <feature>{FEATURE}</feature>"

Segments = list[list[int]]  # the token ids before, between and behind the clip's rows


@dataclass(frozen=True)
class Greedy:
    """Tokens without the leading BOS, the end token included."""

    ids: list[int]
    margins: list[float]  # per step: best less second-best logit, after the penalty


class Original:
    """`trained` holds what the checkpoint adds; it may be edited between calls."""

    def __init__(self, downloads: Downloads, version: Version = "4.30.0") -> None:
        self.tokenizer = SlowTokenizer(downloads.llama / "tokenizer.model", version)
        self.eva = Eva(downloads.eva)
        self.hubert = load_hubert(downloads.hubert)
        self.llama = load_llama(downloads.llama)
        checkpoint = torch.load(downloads.emotion_llama, weights_only=True)["model"]
        # Later releases of peft put the adapter's name in between.
        self.trained: Tensors = {
            name.replace(".default.", "."): tensor.float() for name, tensor in checkpoint.items()
        }
        for number, layer in enumerate(self.llama.model.layers):
            for name in ("q_proj", "v_proj"):
                prefix = f"llama_model.base_model.model.model.layers.{number}.self_attn.{name}"
                getattr(layer.self_attn, name).register_forward_hook(self._lora(prefix))

    def _lora(self, prefix: str) -> Callable[[Any, Any, torch.Tensor], torch.Tensor]:
        def add_lora(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
            lora_a = self.trained[f"{prefix}.lora_A.weight"]  # (rank, hidden)
            lora_b = self.trained[f"{prefix}.lora_B.weight"]  # (hidden, rank)
            added: torch.Tensor = args[0] @ lora_a.T @ lora_b.T
            return output + LORA_ALPHA / len(lora_a) * added

        return add_lora

    # The clip

    def audio_feature(self, samples: npt.NDArray[np.int16]) -> torch.Tensor:
        """(num_samples,) at 16 kHz, mono, -> (feature width,): HuBERT's mean over time."""
        hidden: torch.Tensor = self.hubert(input_values(samples)[None]).last_hidden_state
        return hidden[0].mean(dim=0)

    def video_features(self, samples: npt.NDArray[np.int16]) -> torch.Tensor:
        """(3, feature width): face, video, audio. Serving has no extractor for the first two."""
        audio = self.audio_feature(samples)
        return torch.stack([torch.zeros_like(audio), torch.zeros_like(audio), audio])

    def image_emb(self, frame: npt.NDArray[np.uint8], video_features: torch.Tensor) -> torch.Tensor:
        """(height, width, 3) RGB and (3, feature width) -> (num rows, hidden)."""
        return self.rows(ln_vision(self.eva(self.eva.pixel_values(frame))), video_features)

    def rows(self, vision: torch.Tensor, video_features: torch.Tensor) -> torch.Tensor:
        """(1 + num_patches, EVA width) -> [patch rows | face, video, audio | cls], (num rows, hidden)."""
        patches = vision[1:].reshape(-1, PATCHES_PER_ROW * vision.shape[1])
        features = [
            self._project(f"feats_llama_proj{number}", video_features[number - 1 : number])
            for number in (1, 2, 3)
        ]
        cls = self._project("cls_tk_llama_proj", vision[:1])
        return torch.cat([self._project("llama_proj", patches), *features, cls])

    def _project(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        return F.linear(inputs, self.trained[f"{name}.weight"], self.trained[f"{name}.bias"])

    # The prompt

    def serving_segments(self, question: str) -> Segments:
        """Two: the clip stands at <VideoHere>, <FeatureHere> stays text, `<s>[INST] ` comes twice."""
        return self._generation_segments(f"<s>[INST] {CLIP_TEXT}<s>[INST] {question} [/INST]")

    def evaluation_segments(self, instruction: str) -> Segments:
        """Two, as in serving."""
        return self._generation_segments(f"<s>[INST] {instruction} [/INST]")

    def _generation_segments(self, prompt: str) -> Segments:
        head, tail = prompt.split(VIDEO)
        return [[BOS_ID, *self.tokenizer.encode(head)], self.tokenizer.encode(tail)]

    def training_segments(self, instruction: str) -> Segments:
        """Three: the feature rows stand at <FeatureHere>, apart from the patch rows."""
        head, tail = f"[INST] {instruction} [/INST]".split(VIDEO)
        encoded = [self.tokenizer.encode(text) for text in (head, *tail.split(FEATURE))]
        return [[BOS_ID, *encoded[0]], *encoded[1:]]

    def inputs_embeds(self, segments: Segments, image_emb: torch.Tensor) -> torch.Tensor:
        """What LLaMA reads: (length, hidden)."""
        embedding = self.llama.get_input_embeddings().weight
        texts = [embedding[segment] for segment in segments]
        if len(segments) == 2:
            return torch.cat([texts[0], image_emb, texts[1]])
        patch_rows, feature_rows = image_emb[:-NUM_FEATURE_ROWS], image_emb[-NUM_FEATURE_ROWS:]
        return torch.cat([texts[0], patch_rows, texts[1], feature_rows, texts[2]])

    def serving_embeds(self, question: str, image_emb: torch.Tensor) -> torch.Tensor:
        """(length, hidden). Of a very long question only the end is left, and no clip."""
        segments = self.serving_segments(question)
        return self.inputs_embeds(segments, image_emb)[-MAX_SERVING_ROWS:]

    # The answer

    def logits(self, inputs_embeds: torch.Tensor) -> torch.Tensor:
        """(length, hidden) -> (vocabulary,), of the token that follows."""
        logits: torch.Tensor = self.llama(inputs_embeds=inputs_embeds[None]).logits[0, -1]
        return logits

    def greedy(
        self, inputs_embeds: torch.Tensor, num_tokens: int, repetition_penalty: float = 1.0
    ) -> Greedy:
        output = self.llama(inputs_embeds=inputs_embeds[None], use_cache=True)
        ids: list[int] = []
        margins: list[float] = []
        while len(ids) < num_tokens and EOS_ID not in ids:
            if ids:
                output = self.llama(
                    input_ids=torch.tensor([ids[-1:]]), past_key_values=output.past_key_values
                )
            # generate() starts its ids as [BOS] when it is given embeddings: the prompt is not
            # penalised, BOS always is.
            logits = penalised(output.logits[0, -1], [BOS_ID, *ids], repetition_penalty)
            best, second = logits.topk(2).values.tolist()
            ids.append(int(logits.argmax()))
            margins.append(best - second)
        return Greedy(ids, margins)

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)


def penalised(logits: torch.Tensor, seen: list[int], penalty: float) -> torch.Tensor:
    """(vocabulary,) with the tokens of `seen` made less likely, each once."""
    index = torch.tensor(sorted(set(seen)))
    scores = logits[index]
    return logits.index_copy(0, index, torch.where(scores < 0, scores * penalty, scores / penalty))


def instruction(sentence: str, question: str, task: str = "emotion") -> str:
    """The text of evaluation and training, its double and trailing spaces included."""
    return f"{CLIP_TEXT} The person in video says: {sentence}.  [{task}] {question} "


def serving_answer(text: str) -> str:
    return text.split("###")[0].split("Assistant:")[-1].strip()


def evaluation_answer(text: str) -> str:
    return text.split("</s>")[0].replace("<s>", "").split("[/INST]")[-1].strip()


def input_values(samples: npt.NDArray[np.int16]) -> torch.Tensor:
    """(num_samples,) float32 of mean 0 and variance 1, as Wav2Vec2FeatureExtractor makes them."""
    waveform = (samples / 32768.0).astype(np.float32)  # the wav file was read as float64
    return torch.from_numpy((waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7))


def ln_vision(vision: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(vision, vision.shape[-1:], eps=LN_VISION_EPS)


class Eva:
    """EVA ViT-g without its last norm; the file holds more blocks than are used."""

    def __init__(self, file: Path) -> None:
        dims = json.loads((file.parent / "dims.json").read_text())["dims"]
        self.image_size: int = dims["img"]
        self.num_blocks: int = dims["vit_depth"]
        self.num_heads: int = dims["vit_heads"]
        loaded = torch.load(file, weights_only=True)
        self.tensors: Tensors = {name: tensor.float() for name, tensor in loaded.items()}

    def pixel_values(self, frame: npt.NDArray[np.uint8]) -> torch.Tensor:
        """(height, width, 3) RGB -> (3, image_size, image_size); the aspect is not kept."""
        size = (self.image_size, self.image_size)
        resized = np.array(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
        return (torch.from_numpy(resized).permute(2, 0, 1) / 255 - PIXEL_MEAN) / PIXEL_STD

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(3, image_size, image_size) -> (1 + num_patches, width), cls first."""
        kernel = self.tensors["patch_embed.proj.weight"]
        bias = self.tensors["patch_embed.proj.bias"]
        # (width, grid, grid)
        patches = F.conv2d(pixel_values, kernel, bias, stride=kernel.shape[-1])
        hidden = torch.cat([self.tensors["cls_token"][0], patches.flatten(1).T])
        hidden = hidden + self._positions(grid=patches.shape[-1])
        for number in range(self.num_blocks):
            block = f"blocks.{number}"
            hidden = hidden + self._attention(block, self._norm(f"{block}.norm1", hidden))
            hidden = hidden + self._mlp(block, self._norm(f"{block}.norm2", hidden))
        return hidden

    def _positions(self, grid: int) -> torch.Tensor:
        """(1 + grid * grid, width): the file's smaller grid, stretched; cls keeps its own."""
        positions = self.tensors["pos_embed"][0]
        cls, patches = positions[:1], positions[1:]
        file_grid = round(len(patches) ** 0.5)
        stretched = F.interpolate(
            patches.T.reshape(1, -1, file_grid, file_grid),
            size=(grid, grid),
            mode="bicubic",
            align_corners=False,
        )
        return torch.cat([cls, stretched[0].flatten(1).T])

    def _attention(self, block: str, hidden: torch.Tensor) -> torch.Tensor:
        q_bias, v_bias = self.tensors[f"{block}.attn.q_bias"], self.tensors[f"{block}.attn.v_bias"]
        bias = torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])  # keys have none
        qkv = F.linear(hidden, self.tensors[f"{block}.attn.qkv.weight"], bias)
        length, width = hidden.shape
        q, k, v = qkv.reshape(length, 3, self.num_heads, -1).permute(1, 2, 0, 3)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (heads, length, length)
        mixed = (scores.softmax(dim=-1) @ v).transpose(0, 1).reshape(length, width)
        return self._linear(f"{block}.attn.proj", mixed)

    def _mlp(self, block: str, hidden: torch.Tensor) -> torch.Tensor:
        wide = F.gelu(self._linear(f"{block}.mlp.fc1", hidden))  # exact, by erf
        return self._linear(f"{block}.mlp.fc2", wide)

    def _linear(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _norm(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return F.layer_norm(hidden, weight.shape, weight, bias, EVA_EPS)


def load_hubert(folder: Path) -> Any:
    config = HubertConfig(**json.loads((folder / "config.json").read_text()))
    # What this transformers calls the two parts of the normalised weight; newer files do too.
    names = {
        "conv.weight_g": "conv.parametrizations.weight.original0",
        "conv.weight_v": "conv.parametrizations.weight.original1",
    }
    tensors = load_tensors(folder)
    for old, new in names.items():
        prefix = "encoder.pos_conv_embed."
        if prefix + old in tensors:
            tensors[prefix + new] = tensors.pop(prefix + old)
    return filled(HubertModel(config), tensors)


def load_llama(folder: Path) -> Any:
    config = LlamaConfig(**json.loads((folder / "config.json").read_text()))
    # transformers computes the rotary frequencies itself; the file's are rounded to float16.
    tensors = {
        name: tensor for name, tensor in load_tensors(folder).items() if "inv_freq" not in name
    }
    return filled(LlamaForCausalLM(config), tensors)


def load_tensors(folder: Path) -> Tensors:
    """Every tensor of a Hugging Face folder, float32, in however many files of either kind."""
    tensors: Tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    for file in sorted(folder.glob("*.bin")):
        tensors |= torch.load(file, weights_only=True)
    return {name: tensor.float() for name, tensor in tensors.items()}


def filled(model: Any, tensors: Tensors) -> Any:
    model.float().eval().load_state_dict(tensors, strict=True)
    return model.requires_grad_(False)
