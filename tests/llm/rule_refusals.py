"""What the rule server does not take, by its options, in the words of real servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.llm.rule_options import ServerOptions, Supported

Body = Mapping[str, Any]


class NotTaken(Exception):
    """The server does not take the request."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": "invalid_request_error", "code": code}}


def check_model(options: ServerOptions, body: Body) -> None:
    if body.get("model") != options.model:
        message = f"The model `{body.get('model')}` does not exist."
        raise NotTaken(404, message, "model_not_found")


def check_context(options: ServerOptions, n_prompt: int, n_answer: int) -> None:
    n_most = options.n_context_tokens
    if n_prompt + n_answer > n_most:
        raise NotTaken(
            400,
            f"This model's maximum context length is {n_most} tokens. However, you requested "
            f"{n_prompt + n_answer} tokens ({n_prompt} in the messages, {n_answer} in the "
            "completion).",
            "context_length_exceeded",
        )


def wants(body: Body, name: str, supported: Supported) -> bool:
    """Whether it is asked for, and given."""
    is_wanted = body.get(name) not in (None, False)
    if is_wanted and supported == "refused":
        raise NotTaken(400, f"Setting '{name}' is not supported for this model.")
    return is_wanted and supported == "yes"


def n_alternatives(options: ServerOptions, body: Body, name: str, n_most: int) -> int:
    """How many are shown with a token."""
    wanted = body.get(name)
    if wanted is None:
        return 0
    if options.is_reasoning:
        raise NotTaken(400, f"Unsupported parameter: '{name}' with this model.")
    if n_most == 0:
        return 0
    if wanted > n_most:
        raise NotTaken(400, f"Invalid value for '{name}': must be at most {n_most}.")
    return int(wanted)


def answer_limit(options: ServerOptions, body: Body) -> int | None:
    """In tokens; None: as long as it gets."""
    if options.is_reasoning and "max_tokens" in body:
        raise NotTaken(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "unsupported_parameter",
        )
    if options.is_reasoning and body.get("temperature", 1) != 1:
        raise NotTaken(
            400,
            f"Unsupported value: 'temperature' does not support {body['temperature']} with this "
            "model.",
            "unsupported_value",
        )
    limit: int | None = body.get("max_completion_tokens", body.get("max_tokens"))
    return limit
