"""Plain names for tokens and sets of tokens, where there are plain names."""

from __future__ import annotations

import keyword
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

MOST_NAMED = 4
"""Members of a set that are shown; a set of so many or fewer needs no name of its own."""
MOSTLY = 0.75
"""Of a larger set that must be of one kind for its name."""
MOST_CHARS = 40
"""Of a token or a quoted text."""
LEAST_ENDING = 2
SPACES = " \n\r\t"
"""White space that has a name; what else cannot be seen is shown by its code."""
OPENING, CLOSING = {*"([{"}, {*")]}"}
PUNCTUATION = {*string.punctuation, *"“”‘’–—…•·«»"}
QUOTATION_MARKS = {*"\"'`“”‘’«»"}
KEYWORDS = {*keyword.kwlist, *keyword.softkwlist} - {"_"} | {
    "function", "var", "let", "const", "public", "private", "static", "void", "struct", "enum",
    "elif", "namespace", "template", "typedef", "switch", "fn", "impl", "pub", "use",
}  # fmt: skip
ENGLISH = {
    "and", "as", "assert", "break", "case", "class", "continue", "else", "except", "finally", "for",
    "from", "function", "global", "if", "import", "in", "is", "let", "match", "not", "or", "pass",
    "private", "public", "raise", "return", "static", "switch", "template", "try", "type", "use",
    "while", "with",
}  # fmt: skip
"""Words of code that are common in English too: alone they are no sign of code."""
BYTES = re.compile(r"\s?(<0x[0-9A-F]{2}>)+")
"""Part of a character, as the subject's tokenizer shows it."""
BEGINNING = {"<|endoftext|>", "<|begin_of_text|>", "<s>", "<bos>"}
"""Tokens that stand before a document."""


class Kind(NamedTuple):
    """A name that fits a token or not."""

    name: str
    fits: Callable[[str], bool]
    has_examples: bool = True
    """Whether examples tell more than the name."""
    is_said: Callable[[Sequence[str]], bool] = lambda _tokens: True
    """Whether the name says what tokens share that all fit."""

    def fits_all(self, tokens: Sequence[str]) -> bool:
        return all(map(self.fits, tokens)) and self.is_said(tokens)


def name_token(token: str, *, is_word: bool = False) -> str:
    """A token as a reader wants it: “two” for ` two`, “…ites” for a piece inside a word.

    is_word: it is known to stand alone too.
    """
    if token in BEGINNING:
        return "the beginning of a document"
    if BYTES.fullmatch(token):
        found = re.findall("0x..", token)
        return f"the byte{'s' if len(found) > 1 else ''} {' '.join(found)}"
    if not token or is_space(token):
        return _name_space(token)
    is_piece = token[0].islower() and not is_word
    shown = shorten(printable(token if is_piece else token.strip(SPACES)))
    is_odd = {*shown} & {*'“”"'} or not shown.strip("…")  # between “” it would say something else
    opening, closing = "‘’" if is_odd else "“”"
    return f"{opening}{'…' if is_piece else ''}{shown}{closing}"


def name_tokens(
    tokens: Iterable[str],
    first: Sequence[str] = (),
    most_named: int = MOST_NAMED,
    starts: frozenset[str] = frozenset(),
) -> str:
    """A set of tokens in words: all of a small one, of a larger one its kind and some examples.

    first: members to name before the others. starts: those that are known to begin a word.
    """
    ordered = _in_order({*tokens}, first)
    kind = _kind_of(ordered)
    if kind is not None and not kind.has_examples:
        return kind.name
    names = _names(ordered, starts)
    if len(names) <= most_named:
        return list_words(names)
    if kind is None:
        kind, members = _kind_of_most(ordered)
        names = _names(members, starts)
    if not kind.has_examples:
        return kind.name
    shown = [name for name in names if name not in kind.name]  # “line breaks or punctuation”
    return f"{kind.name} such as {', '.join(shown[:most_named])}"


def list_words(names: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`"""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def shorten(text: str) -> str:
    """Of a long one its beginning."""
    return text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS - 1]}…"


def printable(text: str) -> str:
    """Line breaks and control characters would break a sentence."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _in_order(tokens: set[str], first: Sequence[str]) -> list[str]:
    """Those of `first`; then words, signs and white space, the largest group of them before the
    others; at last what hardly has a name.
    """
    sizes = Counter(map(_group_of, tokens))
    named = [token for token in dict.fromkeys(first) if token in tokens]

    def key(token: str) -> tuple[bool, int, _Group, str, str]:
        group = _group_of(token)
        return group is _Group.ODD, -sizes[group], group, token.strip(), token

    return named + sorted(tokens.difference(named), key=key)


class _Group(IntEnum):
    WORD = 0
    SIGN = 1
    SPACE = 2
    ODD = 3


def _group_of(token: str) -> _Group:
    if is_space(token):
        return _Group.SPACE
    if BYTES.fullmatch(token) or not token.isprintable():
        return _Group.ODD
    return _Group.WORD if token.strip().isalnum() else _Group.SIGN


def _names(tokens: Sequence[str], starts: frozenset[str]) -> list[str]:
    """In their order, without repetition; several kinds of white space are one."""
    words = starts.union(token.strip() for token in tokens if token.startswith(" "))
    spaces = [token for token in tokens if is_space(token)]
    kind = _kind_of(spaces)
    return list(
        dict.fromkeys(
            kind.name
            if kind is not None and token in spaces
            else name_token(token, is_word=token.strip() in words)
            for token in tokens
        )
    )


def _kind_of(tokens: Sequence[str]) -> Kind | None:
    """A name for a set of two or more that fits each of them."""
    if len(tokens) < 2:
        return None
    for kind in KINDS:
        if kind.fits_all(tokens):
            is_few = len({token.strip() for token in tokens}) < MOST_NAMED
            return kind._replace(has_examples=True) if kind is NUMBERS and is_few else kind
    ending = _common_ending([token.strip() for token in tokens])
    return None if ending is None else Kind(f"words ending in “-{ending}”", str.isalpha)


def _kind_of_most(tokens: Sequence[str]) -> tuple[Kind, Sequence[str]]:
    """Of a set that no name fits as a whole: of most of it with those it fits, or of anything."""
    for kind in KINDS:
        members = [token for token in tokens if kind.fits(token)]
        if len(members) >= MOSTLY * len(tokens) and kind.is_said(members):
            return kind._replace(name=f"mostly {kind.name}"), members
    return TOKENS, tokens


def is_space(token: str) -> bool:
    return token != "" and not token.strip(SPACES)


def _is_line_break(token: str) -> bool:
    return is_space(token) and ("\n" in token or "\r" in token)


def _is_word(token: str) -> bool:
    return token.strip().isalpha()


def _is_cased_word(token: str) -> bool:
    """Of an alphabet that has capitals."""
    return _is_word(token) and token.lower() != token.upper()


def _is_letter(token: str) -> bool:
    return _is_cased_word(token) and len(token.strip()) == 1


def _is_capitalised(token: str) -> bool:
    return _is_word(token) and token.strip()[0].isupper()


def _is_punctuation(token: str) -> bool:
    return bool(token.strip()) and {*token.strip()} <= PUNCTUATION


TOKENS = Kind("tokens", lambda _token: True)
NUMBERS = Kind("numbers", lambda t: t.strip().isdecimal(), has_examples=False)
KINDS = (
    Kind(
        "line breaks and indentation",
        lambda t: _is_line_break(t) and t[-1] not in "\n\r",
        has_examples=False,
    ),
    Kind("line breaks", _is_line_break, has_examples=False),
    Kind("tabs", lambda t: is_space(t) and {*t} == {"\t"}, has_examples=False),
    Kind("spaces", lambda t: is_space(t) and not _is_line_break(t), has_examples=False),
    Kind("white space", is_space, has_examples=False),
    NUMBERS,
    Kind(
        "quotation marks",
        lambda t: _is_punctuation(t) and {*t.strip()} <= QUOTATION_MARKS,
        has_examples=False,
    ),
    Kind(
        "opening brackets",
        lambda t: _is_punctuation(t) and bool({*t} & OPENING) and not {*t} & CLOSING,
    ),
    Kind(
        "closing brackets",
        lambda t: _is_punctuation(t) and bool({*t} & CLOSING) and not {*t} & OPENING,
    ),
    Kind("punctuation", _is_punctuation),
    Kind("line breaks or punctuation", lambda t: _is_line_break(t) or _is_punctuation(t)),
    Kind("parts of rare characters", lambda t: BYTES.fullmatch(t) is not None),
    Kind("control characters", lambda t: not any(c.isprintable() for c in t.strip(" "))),
    Kind(
        "code keywords",
        lambda t: t.strip() in KEYWORDS and len(t.strip()) > 3,
        is_said=lambda tokens: any(token.strip() not in ENGLISH for token in tokens),
    ),
    Kind("capital letters", lambda t: _is_letter(t) and t.isupper()),
    Kind("single letters", _is_letter),
    Kind("words in capitals", lambda t: _is_word(t) and t.isupper() and len(t.strip()) > 1),
    Kind("capitalised words", lambda t: _is_capitalised(t) and (t[0] == " " or len(t) > 3)),
    Kind("capitalised words or their beginnings", _is_capitalised),
)
"""Tried in this order."""


def _common_ending(words: Sequence[str]) -> str | None:
    """Letters that all words end in, such as `ing`; None where there are too few of them."""
    if len(words) < MOST_NAMED or not all(word.isalpha() for word in words):
        return None
    ending = ""
    for letters in zip(*(reversed(word.lower()) for word in words), strict=False):
        if len({*letters}) > 1:
            break
        ending = letters[0] + ending
    return ending if len(ending) >= LEAST_ENDING else None


def _name_space(token: str) -> str:
    """Of a token that shows nothing by itself."""
    if not token:
        return "an empty token"
    if not _is_line_break(token):
        return "a tab" if "\t" in token else "a space" if len(token) == 1 else "several spaces"
    n_lines = len(token.splitlines())
    indented = "" if token[-1] in "\n\r" else " and indentation"
    n_breaks = n_lines if not indented else n_lines - 1
    return ("a line break" if n_breaks == 1 else "an empty line") + indented
