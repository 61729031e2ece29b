"""Testing an explanation on sentences written for it, and revising it in their light.

Bills et al. 2023, "Revising explanations"; its prompts' structure, in words of our own:
1. A model writes sentences that should make the unit active if the explanation is right.
2. A model sees the windows behind the explanation, the explanation, and the sentences with the
   subject's real activations, and writes the explanation anew.
What the unit responds to is marked in place, `**so**`; the text's own asterisks are escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import groupby

from neuron_explainer.errors import ParseError
from neuron_explainer.llm.messages import Message
from neuron_explainer.prompts.activations import normalize_window, show_token
from neuron_explainer.prompts.explain_answer import parse_explanation
from neuron_explainer.prompts.few_shot import FOLDER
from neuron_explainer.records.neuron import ActivationRecord

SENTENCES_VERSION = "test_sentences/1"
REVISION_VERSION = "revision/1"
EXAMPLES = "revision"
"""Name of the file in `few_shot_sets`."""
MARK_FROM = 3
"""A token is marked from this normalized activation on, three tenths of the unit's maximum."""

_WRITE = """\
You test descriptions of what a neuron in a language model responds to. Given a description, you \
write sentences that should make the neuron respond if the description is right. Take it by the \
word: use all that it covers, in different senses, subjects and styles, and not only what comes to \
mind first. Each sentence stands alone, on a line of its own, between <answer> and </answer>; \
write nothing else."""

_REVISE = """\
You correct descriptions of what a neuron in a language model responds to. In the texts you are \
shown, the words that it clearly responded to stand between double asterisks. Words without them \
left it quiet, and so did a whole text in which there are none. Line breaks are written \\n, and \
asterisks of the text itself \\*. You see the texts that the present description was made from, \
the description, and new texts.
The description should fit both. Narrow it where it covers words that are not marked; name the \
context where the same word is marked in one place and not in another; widen it where marked words \
lie outside it. If everything fits, repeat it as it is.
Answer with the corrected description alone: one short phrase between <answer> and </answer>."""

_ANSWER = re.compile(
    r"<answer>(?:(?P<closed>(?:(?!<answer>).)*?)</answer>|\s*(?P<open>(?:(?!<answer>)[^\n])*))",
    re.I | re.S,
)
_ANSWER_MARK = re.compile(r"</?answer>", re.I)
_THOUGHTS = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
_LIST_MARK = re.compile(r"^(\d+[.)]|[-*•])\s+")
_QUOTES = {'"': '"', "“": "”", "'": "'", "‘": "’"}


class NewTexts(StrEnum):
    """Where the new texts of a revision come from; the value is their heading."""

    WRITTEN = "New texts, written to fit the description:"
    RANDOM = "New texts, taken from where the neuron responds at least a little:"


@dataclass(frozen=True, slots=True)
class WritingExample:
    """An explanation and sentences that it should cover."""

    explanation: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RevisionExample:
    """A case and its solution; the texts are marked."""

    explanation: str
    evidence: tuple[str, ...]
    tests: tuple[str, ...]
    revised: str


@dataclass(frozen=True, slots=True)
class Examples:
    """Worked examples of both prompts, in the order they are shown."""

    tests: tuple[WritingExample, ...]
    revisions: tuple[RevisionExample, ...]


@cache
def read_revision_examples() -> Examples:
    """In a text of the file, `["word", 9]` is active and a plain string is not."""
    raw = json.loads((FOLDER / f"{EXAMPLES}.json").read_text("utf-8"))
    return Examples(
        tests=tuple(WritingExample(e["explanation"], tuple(e["sentences"])) for e in raw["tests"]),
        revisions=tuple(
            RevisionExample(
                explanation=e["explanation"],
                evidence=tuple(map(_marked_example, e["evidence"])),
                tests=tuple(map(_marked_example, e["tests"])),
                revised=e["revised"],
            )
            for e in raw["revisions"]
        ),
    )


def sentence_messages(explanation: str, n_sentences: int) -> tuple[Message, ...]:
    """Asks for `n_sentences` sentences that the explanation says the unit responds to."""
    turns = [Message("system", _WRITE)]
    for example in read_revision_examples().tests:
        answer = "\n".join(f"<answer>{sentence}</answer>" for sentence in example.sentences)
        turns.append(_ask_for_sentences(example.explanation, len(example.sentences)))
        turns.append(Message("assistant", answer))
    return (*turns, _ask_for_sentences(explanation, n_sentences))


def parse_sentences(text: str, n_sentences: int, *, is_cut: bool = False) -> tuple[str, ...]:
    """The marked sentences, each once, `n_sentences` at the most.

    Fewer when the answer has fewer; ParseError when it has none. `is_cut`: the answer ended at its
    limit of tokens, so that a sentence without an end mark at its end is left out.
    """
    sentences: dict[str, str] = {}
    for answer in _answers(text, is_cut):
        sentence = _unquote(_LIST_MARK.sub("", answer))
        if sentence:
            sentences.setdefault(sentence.casefold(), sentence)
    if not sentences:
        raise ParseError(text, "no sentence between <answer> and </answer>")
    return tuple(sentences.values())[:n_sentences]


def revision_messages(
    explanation: str, evidence: Sequence[str], new_texts: Sequence[str], source: NewTexts
) -> tuple[Message, ...]:
    """Asks for a better explanation; `evidence` and `new_texts` as `mark_active` shows them."""
    turns = [Message("system", _REVISE)]
    for example in read_revision_examples().revisions:
        case = (example.explanation, example.evidence, example.tests, NewTexts.WRITTEN)
        turns.append(_ask_for_revision(*case))
        turns.append(Message("assistant", f"<answer>{example.revised}</answer>"))
    return (*turns, _ask_for_revision(explanation, evidence, new_texts, source))


def parse_revision(text: str, *, is_cut: bool = False) -> str:
    """The last marked description; without any mark, what reads as an explanation.

    ParseError when there is none, and for a refusal.
    """
    *_, marked = _answers(text, is_cut) or [""]
    if marked:
        return parse_explanation(marked)
    return parse_explanation(_ANSWER_MARK.sub("", text), is_cut=is_cut)


def active_tokens(
    record: ActivationRecord, max_activation: float, mark_from: int = MARK_FROM
) -> tuple[bool, ...]:
    """Which tokens are marked; `max_activation` is the unit's own.

    A token whose position does not count is not marked.
    """
    shown = normalize_window(record, max_activation)
    return tuple(a is not None and a >= mark_from for a in shown.activations)


def mark_active(record: ActivationRecord, max_activation: float, mark_from: int = MARK_FROM) -> str:
    """A window on one line, its active tokens between double asterisks, neighbours together."""
    return _mark(zip(record.tokens, active_tokens(record, max_activation, mark_from), strict=True))


def _mark(pieces: Iterable[tuple[str, bool]]) -> str:
    """pieces: (text, whether it is active)."""
    marked = []
    for is_active, run in groupby(pieces, key=lambda piece: piece[1]):
        shown = "".join(show_token(text) for text, _ in run).replace("*", "\\*")
        marked.append(_between_marks(shown) if is_active else shown)
    return "".join(marked).strip(" ")


def _between_marks(shown: str) -> str:
    """` word` -> ` **word**`: spaces stay outside, unless there is nothing else."""
    word = shown.strip(" ") or shown
    before, _, after = shown.partition(word)
    return f"{before}**{word}**{after}"


def _marked_example(pieces: Iterable[str | tuple[str, int]]) -> str:
    return _mark((piece, False) if isinstance(piece, str) else (piece[0], True) for piece in pieces)


def _ask_for_sentences(explanation: str, n_sentences: int) -> Message:
    return Message("user", f"Description: {explanation}\nWrite {n_sentences} sentences.")


def _ask_for_revision(
    explanation: str, evidence: Sequence[str], new_texts: Sequence[str], source: NewTexts
) -> Message:
    return Message(
        "user",
        f"Texts that the description was made from:\n{_numbered(evidence)}\n\n"
        f"Present description: {explanation}\n\n{source}\n{_numbered(new_texts)}",
    )


def _numbered(texts: Sequence[str]) -> str:
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, start=1))


def _answers(text: str, is_cut: bool) -> list[str]:
    """What each `<answer>` opens, on one line; one without an end mark ends with its line."""
    spoken = _THOUGHTS.sub("", text)
    answers = [
        match["closed"] or match["open"] or ""
        for match in _ANSWER.finditer(spoken)
        if match["closed"] is not None or not (is_cut and match.end() == len(spoken))
    ]
    return [one_line for answer in answers if (one_line := " ".join(answer.split()))]


def _unquote(text: str) -> str:
    """Without the quotation marks around the whole; those of a part stay."""
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        inner = text[1:-1]
        if text[0] not in inner and text[-1] not in inner:
            return inner.strip()
    return text
