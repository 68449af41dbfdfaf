"""The product's tokenizer against the restatement of the original's, on thousands of odd strings."""

import random
from pathlib import Path

import pytest
from parity.slow_tokenizer import SlowTokenizer, Version

from serve_app.checkpoint import TOKENIZER
from serve_app.tokenizer import Tokenizer, split_special
from serve_app.types import Tokenization

NUM_STRINGS = 2000
VERSIONS: dict[Tokenization, Version] = {"4.30": "4.30.0", "4.35": "4.35.0"}
GOLDEN = Path(__file__).parents[3] / "shared/goldens/open/weights/Llama-2-7b-chat-hf"
PARTS = (
    *("<s>", "</s>", "<unk>", "$$", "▁", "<VideoHere>", "<FeatureHere>", "[INST]", "[/INST]"),
    *(
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\u00a0",
        "\u200b",
        "\u3000",
        "\x00",
        "\x07",
        "\x7f",
        "\ufffd",
    ),
    *(
        "happy",
        "The person",
        "in video says:",
        "[emotion]",
        "don't",
        "视频",
        "情绪是",
        "。",
        "é",
        "ﬁ",
    ),
    *(
        "\uff21",
        "①",
        "😀",
        "👩‍👩‍👧",
        "e\u0301",
        "\u0627\u0644",
        "<",
        "s>",
        "</",
        "<0x41>",
        "<s",
        "$",
        "a",
        "I",
    ),
)


def odd_strings() -> list[str]:
    rng = random.Random(3)
    return ["", *PARTS] + [
        "".join(rng.choices(PARTS, k=rng.randint(1, 12))) for _ in range(NUM_STRINGS)
    ]


@pytest.fixture(scope="module", params=["toy", "golden"])
def directory(request: pytest.FixtureRequest, tiny_checkpoint: Path) -> Path:
    if request.param == "toy":
        return tiny_checkpoint
    if not GOLDEN.is_dir():
        pytest.skip("the recorded material is not beside the checkout")
    return GOLDEN


@pytest.mark.parametrize("tokenization", VERSIONS)
def test_it_encodes_and_decodes_like_the_original(
    directory: Path, tokenization: Tokenization
) -> None:
    ours = Tokenizer(directory)
    original = SlowTokenizer(directory / TOKENIZER, VERSIONS[tokenization])
    num_special = 0
    for text in odd_strings():
        ids = ours.encode(split_special(text), tokenization)
        assert ids == original.encode(text), repr(text)
        assert ours.decode(ids) == original.decode(ids), repr(text)
        num_special += 1 in ids
    assert num_special > NUM_STRINGS / 20


def test_it_decodes_any_ids_like_the_original(directory: Path) -> None:
    ours = Tokenizer(directory)
    original = SlowTokenizer(directory / TOKENIZER, "4.30.0")
    rng = random.Random(4)
    for _ in range(NUM_STRINGS):
        ids = rng.choices(range(ours.num_pieces), k=rng.randint(0, 20))
        assert ours.decode(ids) == original.decode(ids), ids
