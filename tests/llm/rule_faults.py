"""What goes wrong at the rule server, chosen by a hash: the same in any order of arrival."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

Fault = Literal[
    "rate_limit",  # 429 with Retry-After
    "server_error",  # 500
    "overloaded",  # 503
    "slow",  # after the client's timeout
    "cut",  # the connection ends within the body
    "garbage",  # a body that is no JSON
    "empty",  # an answer without text, or without a choice
    "refusal",  # the model declines
    "off_topic",  # text that is not what was asked
    "cut_answer",  # the answer ends in the middle: `length`
]
FAULTS: tuple[Fault, ...] = get_args(Fault)
FINAL: frozenset[Fault] = frozenset({"refusal", "off_topic", "cut_answer"})
"""The server's answer all the same: asked again, it would not help."""


@dataclass(frozen=True)
class FaultPlan:
    """Which attempts go wrong, and how."""

    share: float = 0.0
    seed: int = 0
    kinds: tuple[Fault, ...] = FAULTS
    n_most: int = 3
    """The attempts of one question from this one on (from 0) are well."""
    slow_s: float = 1.0
    retry_after_s: float = 0.01

    def choose(self, key: str, attempt: int, *, is_chat: bool) -> Fault | None:
        """attempt: how often the same question came before; None: all is well."""
        kinds = [kind for kind in self.kinds if is_chat or kind not in FINAL]
        if attempt >= self.n_most or not kinds:
            return None
        digest = hashlib.blake2b(f"{self.seed} {key} {attempt}".encode(), digest_size=16).digest()
        if int.from_bytes(digest[:8]) / 2**64 >= self.share:
            return None
        return kinds[int.from_bytes(digest[8:]) % len(kinds)]
