"""The rule by which the rule server answers: it reads this project's prompts, and nothing else.

explainer    the tokens with the largest shown values:  tokens such as " two", " half"
simulator    10 where the token is one that the explanation names; 9 or 8 where it is but for
             spaces or capitals; 0 elsewhere
revision     sentences with the named words; the words that are marked
anything     one sentence, always the same
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

Messages = Sequence[tuple[str, str]]
"""(role, text) each."""

N_NAMED = (8, 3, 1)
"""By seed, so that the explanations of several seeds differ."""
MIN_SHARE_OF_BEST = 0.4
IDLE = "This server has nothing to say about that."
_EXPLANATION = re.compile(r"^Explanation of neuron \d+:(.*)$", re.MULTILINE)
_NEURON = re.compile(r"^Neuron \d+$", re.MULTILINE)
_PAIR = re.compile(r"^(.+)\t(\d+)$")
_NUMBERED = re.compile(r"^(\d+)\t(.+)$", re.MULTILINE)
_LISTED = re.compile(r'"(.+?)" (\d+)(?=, "|\n|$)')
_QUOTED = re.compile(r'"(.+?)"(?=[,.;)]|\s|$)|“…?(.+?)”')
_MARKED = re.compile(r"<<(.+?)>>|\*\*(.+?)\*\*")
_LAST = re.compile(r"\nLast token of the text:\n(.+)$")
_HOW_MANY = re.compile(r"\b[Ww]rite (\d+) (explanations|sentences)")
_WORD = re.compile(r"\w{3,}")
_COMMON = {"the", "and", "that", "this", "with", "for", "such", "from", "are", "any", "tokens"}


class Piece(NamedTuple):
    """Part of an answer."""

    text: str
    value: int | None = None
    """The activation that the text is, where it is one."""


def answer_chat(messages: Messages, seed: int | None = None) -> list[Piece]:
    """The pieces, joined, are the answer."""
    task, question = messages[0][1], messages[-1][1]
    explanations = _EXPLANATION.findall(question)
    if explanations and (last := _LAST.search(question)):
        value = predict(explanations[-1], last[1])
        return [Piece(str(value), value)]
    if explanations:
        tokens = [token for _, token in _NUMBERED.findall(question.partition("\nTokens:\n")[2])]
        values = [predict(explanations[-1], token) for token in tokens]
        if "JSON" in task:
            return list(_as_json(tokens, values))
        return list(_as_lines(values))
    if sections := [*_NEURON.finditer(question)]:
        ranked = rank_tokens(question[sections[-1].end() :])
        if ranked:
            return [Piece(_explain(ranked, question, seed))]
    return [Piece(_revise(question) or IDLE)]


def values_wanted(pieces: Sequence[bytes]) -> dict[int, int]:
    """Index of a token of an all-at-once prompt -> the activation that belongs in its place.

    A place is wherever a tab ends what precedes it, the end of the prompt included. pieces: the
    bytes of each token.
    """
    wanted: dict[int, int] = {}
    explanation, line = "", b""
    for at, piece in enumerate(pieces, start=1):
        *whole, line = (line + piece).split(b"\n")
        for text in whole:
            if found := _EXPLANATION.match(text.decode("utf-8", "replace")):
                explanation = found[1]
        if line.endswith(b"\t"):
            wanted[at] = predict(explanation, line[:-1].decode("utf-8", "replace"))
    return wanted


def predict(explanation: str, token: str) -> int:
    """The activation on a token as prompts show it."""
    exact, stripped, folded = _names_of(explanation)
    if token in exact:
        return 10
    if token.strip() in stripped:
        return 9
    return 8 if token.strip().casefold() in folded else 0


@lru_cache(1024)
def _names_of(explanation: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """What it names: as it stands, without spaces at the edges, and in small letters too."""
    quoted = [straight or curly for straight, curly in _QUOTED.findall(explanation)]
    words = (word for word in _WORD.findall(explanation) if word.casefold() not in _COMMON)
    names = quoted or [*words]
    stripped = {name.strip() for name in names} - {""}
    return frozenset(names), frozenset(stripped), frozenset(name.casefold() for name in stripped)


def rank_tokens(evidence: str) -> list[str]:
    """The tokens that deserve a name, the most active on average first.

    Of lines with a token and its value; else of a list with values; else of what is marked in the
    text; else of a list in order.
    """
    pairs = list(_pairs(evidence)) or [(t, int(a)) for t, a in _LISTED.findall(evidence)]
    if not pairs:
        marked = " ".join(map("".join, _MARKED.findall(evidence)))
        pairs = [(f" {word}", 1) for word in marked.split()]
    if not pairs:
        return [straight for straight, _ in _QUOTED.findall(evidence)]
    return _ranked(pairs)


def _ranked(pairs: Sequence[tuple[str, int]]) -> list[str]:
    activations = defaultdict(list)
    for token, activation in pairs:
        activations[token].append(activation)
    means = {token: sum(some) / len(some) for token, some in activations.items()}
    best = max(means.values())
    ranked = sorted(means, key=lambda token: (-means[token], -len(activations[token]), token))
    return [token for token in ranked if means[token] >= max(MIN_SHARE_OF_BEST * best, 1e-9)]


def _pairs(evidence: str) -> Iterator[tuple[str, int]]:
    """Of the first block; after the empty line that ends it, some of them come again."""
    has_begun = False
    for line in evidence.split("\n"):
        if found := _PAIR.match(line):
            has_begun = True
            yield found[1], int(found[2])
        elif has_begun and not line:
            return


def _explain(ranked: Sequence[str], question: str, seed: int | None) -> str:
    wanted = _HOW_MANY.search(question)
    if wanted is None:
        return _say(ranked, seed or 0)
    return "\n".join(f"{i + 1}. {_say(ranked, i)}" for i in range(int(wanted[1])))


def _say(ranked: Sequence[str], seed: int) -> str:
    named = ranked[: N_NAMED[seed % len(N_NAMED)]]
    return "tokens such as " + ", ".join(f'"{token}"' for token in named)


def _as_lines(values: Sequence[int]) -> Iterator[Piece]:
    for n, value in enumerate(values, start=1):
        yield Piece(f"{n}\t" if n == 1 else f"\n{n}\t")
        yield Piece(str(value), value)


def _as_json(tokens: Sequence[str], values: Sequence[int]) -> Iterator[Piece]:
    before = '{"activations":['
    for n, (token, value) in enumerate(zip(tokens, values, strict=True), start=1):
        shown = json.dumps(token, ensure_ascii=False)
        yield Piece(f'{before}{{"n":{n},"token":{shown},"activation":')
        yield Piece(str(value), value)
        before = "},"
    yield Piece("}]}")


def _revise(question: str) -> str | None:
    """Test sentences for a description, or a description of what is marked; None: neither."""
    _, is_there, description = question.rpartition("Description: ")
    if is_there and (wanted := _HOW_MANY.search(question)):
        exact, _, _ = _names_of(description.partition("\n")[0])
        words = sorted(name.strip() for name in exact if name.strip()) or ["it"]
        lines = (
            f"<answer>Sentence {i} is about {words[i % len(words)]} and more.</answer>"
            for i in range(int(wanted[1]))
        )
        return "\n".join(lines)
    if "Present description: " in question and (ranked := rank_tokens(question)):
        return f"<answer>{_say(ranked, 0)}</answer>"
    return None
