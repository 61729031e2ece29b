"""How numbers and tokens are written on a page: a real minus sign, visible white space."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from markupsafe import Markup, escape

MISSING = "–"

_CONTROLS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_WHITE = re.compile("[\n\r\t]| {2,}|^ +$| $")
_COLOURS = [f' style="--a:{n / 1000:.3g}"'.replace(":0.", ":.") for n in range(1001)]
"""Of each thousandth of the full colour."""
_WHITE_GLYPHS = str.maketrans({"\n": "↵", "\r": "␍", "\t": "⇥", " ": "·"})


def number(value: float | None, digits: int = 2) -> str:
    """`−0.40`; an en dash for None. Never `−0.00`."""
    if value is None:
        return MISSING
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """`+0.032`, `−0.400`, `0.000`; an en dash for None."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(text) else text


def percent(share: float | None) -> str:
    """A share of 1 -> `37 %`, with one decimal below 10 %."""
    if share is None:
        return MISSING
    return f"{share * 100:.{1 if 0 < share < 0.1 else 0}f} %"


def rarity(share: float) -> str:
    """Of tokens: `12 %`, `1 in 8,300` below 1 %, `none`."""
    if share >= 0.01 or share == 0:
        return percent(share) if share else "none"
    one_in = 1 / share
    return f"1 in {round(one_in, 2 - len(str(int(one_in)))):,.0f}"


def significant(value: float) -> str:
    """Three significant digits, as short as they go: `0.0312`, `−4.5`, `2e−5`, `0`."""
    if not value:
        return "0"
    text = f"{value:.3g}"
    if "e" in text:
        text = text.replace("e-0", "e-").replace("e+0", "e")
    return text.replace("-", "−")


def printable(text: str) -> str:
    """`text` with control, bidi and zero-width characters written out, as `⟨U+202E⟩`."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROLS.sub(_written_out, _SURROGATES.sub("\ufffd", text))


def token_html(token: str) -> Markup:
    """A token as it stands in running text; white space that would not be seen becomes a glyph."""
    if not token:
        return Markup("<u>∅</u>")
    html, end = Markup(), 0
    for match in _WHITE.finditer(token):
        html += escape(printable(token[end : match.start()]))
        html += Markup("<u>{}</u>").format(match[0].translate(_WHITE_GLYPHS))
        end = match.end()
    return html + escape(printable(token[end:]))


def window_html(tokens: Sequence[str], values: Iterable[float | None], full: float) -> Markup:
    """Tokens as `<i>`, with `--a` from 0 to 1 as `value / full`; nothing is coloured at or below 0.

    A value of None gets the class `m`, which is hatched, so that it is not taken for a zero.
    """
    pairs = zip(map(_token_parts, tokens), _looks(values, full), strict=True)
    spans = [f"{before}<i{look}>{text}</i>" for (before, text), look in pairs]
    return Markup("".join(spans))


def value_list(values: Iterable[float | None]) -> str:
    """Values for a data attribute, separated by spaces; `-` where there is none."""
    return " ".join(["-" if value is None else significant(value) for value in values])


@lru_cache(maxsize=8192)  # a page has hundreds of tokens, and most of them again and again
def _token_parts(token: str) -> tuple[str, str]:
    """Escaped HTML: what stands before a token's colour, and what has it."""
    if token[:1] == " " and token[1:2].strip():
        # Outside the colour, so that a line may break there and words do not run together.
        return " ", token_html(token[1:])
    return "", token_html(token)


def _looks(values: Iterable[float | None], full: float) -> list[str]:
    """The attributes that colour tokens; less than a thousandth of the full colour is none."""
    thousandth = full / 1000 if full > 0 else math.inf
    return [
        " class=m" if value is None
        else "" if value < thousandth
        else _COLOURS[min(1000, round(value / thousandth))]
        for value in values
    ]  # fmt: skip


def _written_out(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match[0]):04X}⟩"
