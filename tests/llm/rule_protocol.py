"""OpenAI's protocol as the rule server speaks it: request bodies to reply bodies, no network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from neuron_explainer.llm.messages import Usage
from tests.llm.rule_logprobs import Logprobs
from tests.llm.rule_options import ServerOptions
from tests.llm.rule_reading import Piece, answer_chat, values_wanted
from tests.llm.rule_refusals import (
    Body,
    NotTaken,
    answer_limit,
    check_context,
    check_model,
    n_alternatives,
    wants,
)
from tests.llm.rule_shapes import Choices, chat_shape, completion_shape, vllm_shape
from tests.llm.rule_tokens import LARGEST, RuleTokenizer

CACHE_BLOCK = 64
"""Prompt tokens; whole blocks that an earlier prompt began with are cached."""
N_SHOWN, SHORT = 3, 64
"""Alternatives where no value is due, in texts of more tokens than that: all that are asked for at
each place would make a body of a megabyte that nobody reads."""
THOUGHTS = "Let me see what the question is about, and what would be a good answer to it. "


@dataclass(frozen=True)
class Reply:
    body: dict[str, Any]
    usage: Usage


class Written(NamedTuple):
    """An answer in tokens."""

    ids: tuple[int, ...]
    values: tuple[int | None, ...]
    """The activation that begins at each token."""


class RuleModel:
    """Answers by the rule of `rule_reading.py`, within the options."""

    def __init__(self, tokenizer: RuleTokenizer, options: ServerOptions) -> None:
        self._tokenizer = tokenizer
        self._logprobs = Logprobs(tokenizer)
        self._options = options
        thinks = options.thinks or options.is_reasoning
        self._n_thoughts = len(tokenizer.encode(THOUGHTS)) if thinks else 0
        self._cached: set[int] = set()

    def models(self) -> dict[str, Any]:
        """GET /v1/models."""
        if not self._options.lists_models:
            raise NotTaken(404, "Not Found")
        card: dict[str, Any] = {"id": self._options.model, "object": "model", "owned_by": "rule"}
        if self._options.context_field is not None:
            field: Any = self._options.n_context_tokens
            for name in reversed(self._options.context_field.split(".")):
                field = {name: field}
            card |= field
        return {"object": "list", "data": [card]}

    def chat(self, body: Body) -> Reply:
        """POST /v1/chat/completions."""
        options = self._options
        if not options.chat:
            raise NotTaken(404, "Not Found")
        check_model(options, body)
        messages = [(m["role"], str(m["content"])) for m in body["messages"]]
        if not options.system_prompts and any(role == "system" for role, _ in messages):
            raise NotTaken(400, "System role not supported")
        k = n_alternatives(options, body, "top_logprobs", options.n_top_logprobs)
        limit = answer_limit(options, body)
        prompt = [i for role, text in messages for i in self._message_ids(role, text)]
        check_context(options, len(prompt), limit or 0)
        whole = self._write(self._follow_schema(body, answer_chat(messages, body.get("seed"))))
        n_left = len(whole.ids) if limit is None else max(0, limit - self._n_thoughts)
        written = Written(whole.ids[:n_left], whole.values[:n_left])
        message = {"role": "assistant", "content": self._tokenizer.decode(written.ids)}
        if options.thinks:
            message["reasoning_content"] = THOUGHTS
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": "stop" if written == whole else "length",
            "logprobs": self._answer_logprobs(written, k) if k and body.get("logprobs") else None,
        }
        n_thoughts = self._n_thoughts if limit is None else min(limit, self._n_thoughts)
        usage = Usage(len(prompt), self._read_cache(prompt), n_thoughts + len(written.ids))
        return self._reply("chat.completion", choice, usage, n_thoughts)

    def complete(self, body: Body) -> Reply:
        """POST /v1/completions; one token is written at the most."""
        options = self._options
        if not options.completions:
            raise NotTaken(404, "Not Found")
        check_model(options, body)
        prompt = self._prompt_ids(body["prompt"])
        n_written = min(1, body.get("max_tokens", 16))
        k = n_alternatives(options, body, "logprobs", options.n_completion_logprobs)
        is_echo = wants(body, "echo", options.echo)
        if n_written < 1 and not (is_echo and options.echo_takes_0):
            raise NotTaken(400, "max_tokens must be at least 1")
        check_context(options, len(prompt), n_written)
        ids = (*prompt, *[self._tokenizer.id_of("\n")] * n_written)
        shown = slice(0 if is_echo else len(prompt), len(ids))
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
        choice["text"] = self._tokenizer.decode(ids[shown])
        if k:
            places = self._place_choices(prompt, k)[shown]
            choice["logprobs"] = completion_shape(
                self._tokenizer, ids[shown], places, is_start=is_echo
            )
        if wants(body, "prompt_logprobs", options.prompt_logprobs):
            places = self._place_choices(prompt, body["prompt_logprobs"])[:-1]
            choice["prompt_logprobs"] = vllm_shape(self._tokenizer, prompt, places)
        usage = Usage(len(prompt), self._read_cache(prompt), n_written)
        return self._reply("text_completion", choice, usage)

    def _prompt_ids(self, prompt: str | Sequence[int]) -> tuple[int, ...]:
        if isinstance(prompt, str):
            return self._tokenizer.encode(prompt)
        if not self._options.token_ids:
            raise NotTaken(422, "prompt: Input should be a valid string")
        ids = tuple(prompt)
        if any(not 0 <= i < len(self._tokenizer.text_of) for i in ids):
            raise NotTaken(400, "a token id is out of the vocabulary")
        if self._options.retokenizes:
            return self._tokenizer.encode(self._tokenizer.decode(ids))
        return ids

    def _message_ids(self, role: str, text: str) -> tuple[int, ...]:
        """Two tokens frame a message."""
        return (len(role), *self._tokenizer.encode(text), 0)

    def _follow_schema(self, body: Body, pieces: list[Piece]) -> list[Piece]:
        wanted = (body.get("response_format") or {}).get("json_schema")
        if wanted is None or not wants(body, "response_format", self._options.schema):
            return pieces
        try:
            json.loads("".join(piece.text for piece in pieces))
        except ValueError:
            return [Piece(json.dumps(an_instance(wanted["schema"])))]
        return pieces

    def _write(self, pieces: Sequence[Piece]) -> Written:
        value_at, n_bytes = {}, 0
        for piece in pieces:
            value_at[n_bytes] = piece.value
            n_bytes += len(piece.text.encode())
        ids = self._tokenizer.encode("".join(piece.text for piece in pieces))
        values, n_bytes = [], 0
        for token_id in ids:
            values.append(value_at.get(n_bytes))
            n_bytes += len(self._tokenizer.bytes_of[token_id])
        return Written(ids, tuple(values))

    def _answer_logprobs(self, written: Written, k: int) -> dict[str, Any]:
        n_shown = min(k, N_SHOWN) if len(written.ids) > SHORT else k
        places: list[Choices] = []
        before = None
        for token_id, value in zip(*written, strict=True):
            if value is not None:
                places.append(self._logprobs.of_value(value, k))
            elif before is not None and before in (1, LARGEST) and self._tokenizer.splits_ten:
                end = self._tokenizer.id_of("\n") if before == LARGEST else token_id
                places.append(self._logprobs.after_1(before, end, k))
            else:
                places.append(self._logprobs.of_text(token_id, n_shown))
            before = value
        return chat_shape(self._tokenizer, written.ids, places)

    def _place_choices(self, prompt: Sequence[int], k: int) -> list[Choices]:
        """What may stand at each place of the prompt, and after it."""
        pieces = [self._tokenizer.bytes_of[i] for i in prompt]
        wanted = values_wanted(pieces)
        end = self._tokenizer.id_of("\n")
        n_shown = min(k, N_SHOWN) if len(prompt) > SHORT else k
        places: list[Choices] = []
        for at, token_id in enumerate([*prompt, end]):
            before = wanted.get(at - 1) if at and pieces[at - 1] == b"1" else None
            if before is not None and self._tokenizer.splits_ten:
                places.append(self._logprobs.after_1(before, end, k))
            elif at in wanted:
                places.append(self._logprobs.of_value(wanted[at], k))
            else:
                places.append(self._logprobs.of_text(token_id, n_shown))
        return places

    def _read_cache(self, prompt: Sequence[int]) -> int:
        """How much of the prompt was cached; all of it is, from now on."""
        key, n_cached = 0, 0
        for start in range(0, len(prompt) - len(prompt) % CACHE_BLOCK, CACHE_BLOCK):
            key = hash((key, *prompt[start : start + CACHE_BLOCK]))
            if key in self._cached:
                n_cached = start + CACHE_BLOCK
            self._cached.add(key)
        return n_cached

    def _reply(
        self, kind: str, choice: Mapping[str, Any], usage: Usage, n_thoughts: int = 0
    ) -> Reply:
        body: dict[str, Any] = {
            "id": "rule", "object": kind, "created": 0,
            "model": self._options.model, "choices": [choice],
        }  # fmt: skip
        if self._options.tells_usage:
            body["usage"] = {
                "prompt_tokens": usage.n_prompt_tokens,
                "completion_tokens": usage.n_completion_tokens,
                "total_tokens": usage.n_prompt_tokens + usage.n_completion_tokens,
                "prompt_tokens_details": {"cached_tokens": usage.n_cached_tokens},
                "completion_tokens_details": {"reasoning_tokens": n_thoughts},
            }
        return Reply(body, usage)


def an_instance(schema: Mapping[str, Any]) -> Any:
    """Something that follows a strict schema."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: an_instance(inner) for name, inner in schema["properties"].items()}
        case "array":
            return [an_instance(schema["items"])] * max(1, schema.get("minItems", 1))
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return "something"
