"""How many tokens a text will be, without the tokenizer of the model that is to read it."""

from __future__ import annotations

import re
from functools import lru_cache

_PIECES = re.compile(r" ?[A-Za-z]{1,7}| ?[0-9]{1,2}|.", re.S)
"""An English word of up to seven letters is about one token in today's vocabularies; a sign is one,
and so is each of several spaces in GPT-2's."""


@lru_cache(maxsize=1024)
def estimate_tokens(text: str) -> int:
    """About how many tokens a byte-level BPE vocabulary makes of the text, rather too many.

    Texts that come again, such as worked examples, are counted once.
    """
    n_beyond_ascii = 0 if text.isascii() else len(text.encode("utf-8", "surrogatepass")) - len(text)
    return len(_PIECES.findall(text)) + n_beyond_ascii
