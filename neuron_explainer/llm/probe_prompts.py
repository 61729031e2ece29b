"""What a server's /v1/completions says of the tokens of a prompt.

The all-at-once simulation of Bills et al. 2023 asks for `echo` with logprobs; vLLM has a field of
its own, `prompt_logprobs`. Either will do when a prompt may be token ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from neuron_explainer.llm.capabilities import Capability
from neuron_explainer.llm.chat_body import read_usage
from neuron_explainer.llm.probe_chat import is_usable
from neuron_explainer.llm.probe_server import ProbedServer, Raw, first_choice, inside

PATH = "/completions"
PROMPT_IDS = (68, 69, 70, 71, 72, 73, 74, 75)
"""Eight letters in the order of the alphabet, in byte-level vocabularies (where `!` is 0) and in
sentencepiece ones with a token a byte: made text and split anew, they are fewer tokens."""
PROMPT_TEXT = "The sky is"
ECHO_TRIED = ((1, 20), (1, 5), (0, 5))
"""(max_tokens, logprobs), in turn: vLLM's 20, then what servers take that allow less. The paper's
max_tokens of 0 comes last, as some servers take it for no limit and write on and on."""
N_TRIED = (20, 5)
NOT_GIVEN = Capability(False, "asked for, and not in the answer")


class PromptFindings(NamedTuple):
    """Fields of Capabilities."""

    token_ids: Capability
    echo: Capability
    echo_max_tokens: int
    prompt_logprobs: Capability
    n_prompt_logprobs: int


class Echo(NamedTuple):
    """What came back."""

    has: Capability
    token_ids: Capability
    max_tokens: int = 1
    n_alternatives: int = 0


async def look_at_prompts(server: ProbedServer, model: str) -> PromptFindings:
    """Six requests at the most."""
    asked = {"model": model, "temperature": 0}
    echo = await _look_at_echo(server, asked)
    prompt_logprobs, n_alternatives = await _look_at_prompt_logprobs(server, asked)
    return PromptFindings(
        token_ids=Capability(True, "taken") if prompt_logprobs.has else echo.token_ids,
        echo=echo.has,
        echo_max_tokens=echo.max_tokens,
        prompt_logprobs=prompt_logprobs,
        n_prompt_logprobs=max(echo.n_alternatives, n_alternatives),
    )


async def _look_at_echo(server: ProbedServer, asked: Raw) -> Echo:
    reason = ""
    for max_tokens, n_wanted in ECHO_TRIED:
        body = {**asked, "echo": True, "max_tokens": max_tokens, "logprobs": n_wanted}
        reply = await server.ask("POST", PATH, {**body, "prompt": PROMPT_IDS})
        if not isinstance(reply, str):
            return _read_echo(reply, max_tokens, n_wanted)
        reason = reason or reply
    refused = Capability(False, reason)
    reply = await server.ask("POST", PATH, {**body, "max_tokens": 1, "prompt": PROMPT_TEXT})
    if isinstance(reply, str):
        return Echo(refused, refused)
    if n_alternatives := _most_usable(_echoed(reply)[1:2], n_wanted):
        return Echo(Capability(True, "of text alone"), refused, 1, n_alternatives)
    return Echo(NOT_GIVEN, refused)


def _read_echo(reply: Raw, max_tokens: int, n_wanted: int) -> Echo:
    places, n_sent = _echoed(reply), len(PROMPT_IDS)
    usage = read_usage(reply.get("usage"))
    n_read = n_sent if usage is None else usage.n_prompt_tokens
    if len(places) <= 1:
        return Echo(NOT_GIVEN, _as_they_are(n_read))
    # The answer's last token may be missing, as where it is the end of the text.
    if len(places) < n_sent or (usage is None and len(places) > n_sent + max_tokens):
        n_read = len(places) - max_tokens
    n_alternatives = _most_usable(places[1:n_sent], n_wanted)
    if n_alternatives == 0:
        nothing = Capability(False, "the prompt comes back without alternatives")
        return Echo(nothing, _as_they_are(n_read))
    found = Capability(True, f"{n_alternatives} alternatives at a place of the prompt")
    return Echo(found, _as_they_are(n_read), max_tokens, n_alternatives)


def _as_they_are(n_read: int) -> Capability:
    n_sent = len(PROMPT_IDS)
    if n_read == n_sent:
        return Capability(True, "taken")
    return Capability(False, f"taken, but {n_sent} ids were read as {n_read}")


def _echoed(reply: Raw) -> Sequence[Any]:
    """Alternatives by place, what is written after the prompt included."""
    places = inside(first_choice(reply), "logprobs", "top_logprobs")
    return places if isinstance(places, list) else []


async def _look_at_prompt_logprobs(server: ProbedServer, asked: Raw) -> tuple[Capability, int]:
    reason = ""
    for n_wanted in N_TRIED:
        body = {**asked, "max_tokens": 1, "prompt_logprobs": n_wanted, "prompt": PROMPT_IDS}
        reply = await server.ask("POST", PATH, body)
        if not isinstance(reply, str):
            return _read_prompt_logprobs(reply, n_wanted)
        reason = reason or reply
    return Capability(False, reason), 0


def _read_prompt_logprobs(reply: Raw, n_wanted: int) -> tuple[Capability, int]:
    places = first_choice(reply).get("prompt_logprobs")
    if not isinstance(places, list):
        return NOT_GIVEN, 0
    if len(places) != len(PROMPT_IDS):
        found = f"{len(PROMPT_IDS)} ids came back as {len(places)} tokens"
        return Capability(False, found), 0
    shown = [
        {token_id: inside(entry, "logprob") for token_id, entry in place.items()}
        for place in places[1:]
        if isinstance(place, dict)
    ]
    n_alternatives = _most_usable(shown, n_wanted)
    if n_alternatives == 0:
        return Capability(False, "the prompt comes back without alternatives"), 0
    found = f"{n_alternatives} alternatives at a place of the prompt"
    return Capability(True, found), n_alternatives


def _most_usable(places: Sequence[Any], n_wanted: int) -> int:
    """Alternatives of the place with the most; 0 where none has more than its own token.

    Servers add the token that stands there to those that were asked for.
    """
    counts = [
        sum(map(is_usable, place.values())) if isinstance(place, dict) else 0 for place in places
    ]
    most = max(counts, default=0)
    return min(most, n_wanted) if most > 1 else 0
