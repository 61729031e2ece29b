"""What an explainer model wrote, as explanations: one line each, without what models put around it.

A reply that explains nothing (empty, cut off, a refusal) is a ParseError, never a text.
"""

from __future__ import annotations

import re

from neuron_explainer.errors import ParseError

_THOUGHTS = re.compile(r"<(think|thinking|reasoning|thought)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_THOUGHTS_BEGIN = re.compile(r"<(think|thinking|reasoning|thought)>", re.IGNORECASE)
_THOUGHTS_END = re.compile(r"</(think|thinking|reasoning|thought)>", re.IGNORECASE)
_HEADING = re.compile(r"#+\s")
_LIST_MARK = re.compile(r"(?:[-*•+>]|\d+[.)])\s+")
_ITEM = re.compile(r"^[ \t>*_]*\d+[.)][ \t]*", re.MULTILINE)
_LABEL = re.compile(
    r"[*_]{0,3}(?:(?:the |my |final |short |best )*"
    r"(?:explanation|answer|phrase|description|summary)"
    r"(?: (?:of|for) (?:the |this )?neuron(?: \d+)?(?: behavior)?)?|(?:this |the )?neuron(?: \d+)?)"
    r"[*_]{0,3}\s*(?:[:–—][*_]{0,3}\s*|$)",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"(?:based on [^,]{1,80}, )?(?:it (?:seems|appears) (?:that )?)?"
    r"(?:the |this )?neuron(?: \d+)? (?:is active (?:on|when the next token is one of)|is active|"
    r"activates|fires|responds|detects|looks for)(?: (?:on|for|to|in response to))?[\s:]+(?=\S)",
    re.IGNORECASE,
)
_QUOTES = {'"': '"', "“": "”", "'": "'", "‘": "’", "`": "`", "«": "»"}
_REFUSAL = re.compile(
    r"(?:(?:i['’]?m|i am) (?:very |so |really )?(?:sorry|afraid|unable|not (?:able|sure|certain))\b"
    r"|(?:sorry|apologies|unfortunately)\s*,?\s*(?:but )?(?:i|there|it|no)\b"
    r"|i (?:cannot|can['’]?t|can not|could not|couldn['’]?t|won['’]?t|do not|don['’]?t)\b"
    r"|as an? (?:ai|large language model|language model)\b"
    r"|(?:it is|it['’]?s) (?:not possible|impossible|unclear|hard|difficult) to\b"
    r"|(?:unable|not enough|insufficient) (?:to|data|information|evidence|context|examples)\b"
    r"|(?:no|there is no|there['’]?s no) (?:clear|obvious|discernible|consistent|single)\b"
    r"|(?:none|nothing|unknown|unclear|undetermined|n/?a|null|nan|no explanation)\W*$)",
    re.IGNORECASE,
)
_NO_FULL_STOP = re.compile(r"(?:(?:\b[A-Za-z]\.){2,}|\.\.)$")
"""`U.S.`, `...`: the dot belongs to the text."""
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


def parse_explanation(text: str, *, is_cut: bool = False) -> str:
    """The first line that says something. `is_cut`: the reply ended at its limit of tokens.

    ParseError when no line does, and for a line whose end is missing.
    """
    for line in _whole_lines(text, is_cut):
        explanation = _clean(line)
        if explanation:
            return _require_claim(text, explanation)
    raise ParseError(text, "no words in the answer")


def parse_list(text: str, *, is_begun: bool = False, is_cut: bool = False) -> tuple[str, ...]:
    """The different explanations of a numbered list, in its order.

    `is_begun`: the prompt ended in the number 1, so that the text begins with the first of them.
    Entries that claim nothing are left out; ParseError when none is left.
    """
    listed = "\n".join(_whole_lines(text, is_cut))
    before, *items = _ITEM.split(listed)
    if is_begun:
        items.insert(0, before)
    explanations = []
    for item in items:
        first_line = next((line for line in item.splitlines() if line.strip()), "")
        explanation = _clean(first_line)
        if explanation and not _REFUSAL.match(explanation):
            explanations.append(explanation)
    if not explanations:
        raise ParseError(text, "no numbered explanation in the answer")
    return tuple(dict.fromkeys(explanations))


def _whole_lines(text: str, is_cut: bool) -> list[str]:
    """The lines of the answer, thoughts left out; of a cut one the whole sentences of the last."""
    answer = _without_thoughts(text)
    lines = [line for line in answer.splitlines() if line.strip()]
    if is_cut and lines and not answer.endswith("\n"):
        last = lines.pop()
        ends = [match.end() for match in _SENTENCE_END.finditer(last)]
        if ends:
            lines.append(last[: ends[-1]])
        elif not lines:
            raise ParseError(text, "cut off before it ended")
    return lines


def _without_thoughts(text: str) -> str:
    """What follows the thoughts of a reasoning model; some templates open them in the prompt."""
    answer = _THOUGHTS.sub("", text)
    *_, answer = _THOUGHTS_END.split(answer)
    if _THOUGHTS_BEGIN.search(answer):
        raise ParseError(text, "cut off in its thoughts")
    return answer


def _clean(line: str) -> str:
    """The claim of a line; empty when there is none, as in a heading or `Sure, here it is:`."""
    cleaned, before = line.strip(), None
    if _HEADING.match(cleaned):
        return ""
    while cleaned != before:
        before = cleaned
        for pattern in (_LIST_MARK, _LABEL, _OPENING):
            match = pattern.match(cleaned)
            cleaned = cleaned[match.end() :] if match else cleaned
        cleaned = _without_frame(cleaned.strip().lstrip("…").strip())
    is_announcement = cleaned.endswith(":")
    return cleaned if any(map(str.isalnum, cleaned)) and not is_announcement else ""


def _without_frame(text: str) -> str:
    """Without emphasis, quotation marks around the whole, and one full stop at the end."""
    for mark in ("***", "**", "__", "*", "_", "```"):
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark):
            inner = text[len(mark) : -len(mark)]
            text = inner if mark not in inner else text
        elif text.startswith(mark + " ") or (text.startswith(mark) and text.count(mark) == 1):
            text = text[len(mark) :]
    closing = _QUOTES.get(text[:1])
    if closing and len(text) > 2 and text.rstrip(".").endswith(closing):
        inner = text.rstrip(".")[1:-1]
        if text[0] not in inner and closing not in inner:
            text = inner
    if text.endswith(".") and not _NO_FULL_STOP.search(text):
        text = text[:-1]
    return text.strip()


def _require_claim(text: str, explanation: str) -> str:
    if _REFUSAL.match(explanation):
        raise ParseError(text, "no explanation in the answer")
    return explanation
