"""Prompt layouts as data, their encoding into token ids, and the original's trimming of the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from serve_app.errors import InvalidRequestError
from serve_app.model.arguments import CLIP_MARKER
from serve_app.tokenizer import BOS, EOS, Tokenizer, split_special
from serve_app.types import LayoutName, PromptOptions, Turn

QUESTION = "{question}"
FEATURES = "<FeatureHere>"


@dataclass(frozen=True, slots=True)
class AnswerTrim:
    """How the original trims the model's text: to the part between `start` and `end`."""

    end: str
    drop: str
    start: str

    def __call__(self, text: str) -> str:
        return text.split(self.end)[0].replace(self.drop, "").split(self.start)[-1].strip()


SERVING_TRIM = AnswerTrim(end="###", drop="", start="Assistant:")
EVALUATION_TRIM = AnswerTrim(end="</s>", drop="<s>", start="[/INST]")


@dataclass(frozen=True, slots=True)
class PromptLayout:
    """One way to put a question and a clip into a prompt. A BOS of its own comes before the template."""

    name: LayoutName
    # `<s>` is the special token. Names of holes that are not in `holes` are plain text.
    template: str
    # Where the clip's positions go: all at CLIP_MARKER, or the last four at FEATURES.
    holes: tuple[str, ...]
    question_end: str  # appended unless the question ends with it already
    trim: AnswerTrim


LAYOUTS = {
    layout.name: layout
    for layout in (
        # The original's API, which doubles [INST] and leaves <FeatureHere> in the prompt as text.
        PromptLayout(
            name="chat",
            template=(
                "<s>[INST] <video><VideoHere></video> <feature><FeatureHere></feature>"
                "<s>[INST] {question} [/INST]"
            ),
            holes=(CLIP_MARKER,),
            question_end="",
            trim=SERVING_TRIM,
        ),
        # The layout behind the published scores.
        PromptLayout(
            name="evaluation",
            template=(
                "<s>[INST] <video><VideoHere></video> <feature><FeatureHere></feature> {question} [/INST]"
            ),
            holes=(CLIP_MARKER,),
            question_end=" ",
            trim=EVALUATION_TRIM,
        ),
        # The layout of the training: the last four positions stand at <FeatureHere>.
        PromptLayout(
            name="training",
            template=(
                "[INST] <video><VideoHere></video> <feature><FeatureHere></feature> {question} [/INST]"
            ),
            holes=(CLIP_MARKER, FEATURES),
            question_end=" ",
            trim=EVALUATION_TRIM,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids around the holes of a layout."""

    before_clip: list[int]
    before_features: list[int] | None  # None: the clip's positions all stand together
    after_clip: list[int]

    @property
    def num_text_tokens(self) -> int:
        return len(self.before_clip) + len(self.before_features or ()) + len(self.after_clip)


def encode_prompt(
    options: PromptOptions, question: str, tokenizer: Tokenizer, history: Sequence[Turn] = ()
) -> Prompt:
    """Token ids of a question in a layout, after earlier turns about the same clip.

    The first question stands in the layout. Each later one follows as on the original's demo page, but
    after the previous answer, which that page leaves out.

    Special tokens in a question are encoded as plain text by default, and as special tokens with
    `parity: reference`, as in the original.

    Raises:
        InvalidRequestError: with `parity: reference`, the question contains a hole of the layout, on which
            the original fails, too.
    """
    layout = LAYOUTS[options.layout]
    first, *later = [*(turn.question for turn in history), question]
    prompt = _encode_first(options, layout, first, tokenizer)
    for turn, asked in zip(history, later, strict=True):
        segment = [turn.answer, EOS, "", BOS, f"[INST] {asked} [/INST]"]
        prompt.after_clip.extend(tokenizer.encode(segment, options.tokenization))
    return prompt


def _encode_first(
    options: PromptOptions, layout: PromptLayout, question: str, tokenizer: Tokenizer
) -> Prompt:
    if not question.endswith(layout.question_end):
        question += layout.question_end
    is_reference = options.parity == "reference"
    for hole in layout.holes:
        if is_reference and hole in question:
            raise InvalidRequestError(f"with parity 'reference' a question must not hold {hole}")
    segments = [
        tokenizer.encode(_fill(segment, question, is_reference), options.tokenization)
        for segment in _split(layout)
    ]
    before, *between, after = segments
    return Prompt([tokenizer.bos_id, *before], between[0] if between else None, after)


def _split(layout: PromptLayout) -> list[str]:
    """The template's text between its holes."""
    segments = [layout.template]
    for hole in layout.holes:
        segments[-1:] = segments[-1].split(hole)
    return segments


def _fill(segment: str, question: str, with_specials: bool) -> list[str]:
    """Plain text and special tokens in turn, with the question in its place."""
    if with_specials:
        return split_special(segment.replace(QUESTION, question))
    before, found, after = segment.partition(QUESTION)
    if not found:
        return split_special(segment)
    head, tail = split_special(before), split_special(after)
    return [*head[:-1], head[-1] + question + tail[0], *tail[1:]]
