"""What a server of language models can do, and which ways to simulate that leaves.

Bills et al. 2023 simulate from the prompt's logprobs, which few servers give today; the other
ways make do with less.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from neuron_explainer.llm.messages import Usage

ALL_AT_ONCE = "all_at_once"
STREAMING = "streaming"
STRUCTURED = "structured"
ONE_AT_A_TIME = "one_at_a_time"
_LOOKED_AT = {"chat", "system_prompt", "temperature", "thoughts", "top_logprobs", "json_schema",
              "token_ids", "echo", "prompt_logprobs"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether it is there, and what was found, in one line."""

    has: bool
    found: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Of one model of one server, as seen from outside."""

    base_url: str
    model: str
    models: tuple[str, ...]
    """That the server lists; empty when it lists none."""
    n_context_tokens: int | None
    """None: the server does not say."""
    chat: Capability
    """/v1/chat/completions answers; without it nothing is known of the next five."""
    temperature: Capability
    """Without it, answers are limited by `max_completion_tokens`, as OpenAI's reasoning models
    want it."""
    thoughts: Capability
    """It thinks before it answers; the thoughts count as tokens of the answer."""
    system_prompt: Capability
    top_logprobs: Capability
    """Alternatives with each token that it writes."""
    n_top_logprobs: int
    """At the most, as far as was asked; 0: none."""
    json_schema: Capability
    """Answers follow a strict schema, which is more than that the server takes one."""
    token_ids: Capability
    """/v1/completions reads a prompt of token ids as it is."""
    echo: Capability
    """The prompt comes back, with the alternatives at each place."""
    echo_max_tokens: int
    """To ask for with it: 1, or 0 where a server takes no other."""
    prompt_logprobs: Capability
    """vLLM's field of this name."""
    n_prompt_logprobs: int
    """Alternatives at a place of a prompt, by either way, as far as was asked; 0: none."""
    n_requests: int
    """That it took to find out."""
    usage: Usage | None
    """Of these requests together; None: the server does not say."""


def write_capabilities(can: Capabilities) -> str:
    """As JSON."""
    return json.dumps(asdict(can))


def read_capabilities(text: str) -> Capabilities:
    """What `write_capabilities` made; ValueError, LookupError or TypeError for anything else."""
    raw: dict[str, Any] = json.loads(text)
    usage = raw["usage"]
    looked_at = {name: Capability(**v) for name, v in raw.items() if name in _LOOKED_AT}
    others = {"models": tuple(raw["models"]), "usage": None if usage is None else Usage(**usage)}
    return Capabilities(**{**raw, **looked_at, **others})


def simulations_for(can: Capabilities) -> tuple[str, ...]:
    """The ways to simulate with this model, best first; none when it answers nothing.

    all_at_once reads all predictions of a window from one prompt; streaming and one_at_a_time
    take expected values from what is written, in one request a window and in one a token;
    structured has only the numbers that are written. Thoughts leave no number in a foreseeable
    place, so a model that thinks does the first and the third.
    """
    sees_prompt = can.token_ids.has and (can.echo.has or can.prompt_logprobs.has)
    sees_answer = can.chat.has and can.top_logprobs.has and not can.thoughts.has
    ways = {
        ALL_AT_ONCE: sees_prompt,
        STREAMING: sees_answer,
        STRUCTURED: can.chat.has,
        ONE_AT_A_TIME: sees_answer,
    }
    return tuple(name for name, is_possible in ways.items() if is_possible)
