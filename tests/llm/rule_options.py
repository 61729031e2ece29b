"""What a rule server can do, and how it fails at what it cannot; each as real servers do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Supported = Literal["yes", "ignored", "refused"]
"""ignored: an answer as though it had not been asked for; refused: a 400."""


@dataclass(frozen=True)
class ServerOptions:
    model: str = "rule-1"
    api_key: str | None = None
    """None: any will do."""
    lists_models: bool = True
    n_context_tokens: int = 32_768
    context_field: str | None = "max_model_len"
    """In /v1/models; a dot goes into an object, as in `meta.n_ctx_train`; None: it is not said."""
    chat: bool = True
    """False: 404, as a server of base models."""
    completions: bool = True
    """False: 404, as a server of chat models."""
    system_prompts: bool = True
    n_top_logprobs: int = 20
    """Most alternatives with an output token; more are refused; 0: asked for, they are ignored."""
    n_completion_logprobs: int = 20
    """The same for /v1/completions, of the prompt too."""
    schema: Supported = "yes"
    token_ids: bool = True
    """False: a prompt of ids is refused."""
    retokenizes: bool = False
    """A prompt of ids is made text and split again."""
    echo: Supported = "yes"
    """With logprobs of the prompt."""
    echo_takes_0: bool = True
    """False: max_tokens must be 1 at least."""
    prompt_logprobs: Supported = "ignored"
    """vLLM's extra field."""
    thinks: bool = False
    """Thoughts come before an answer, in `reasoning_content`, and count."""
    is_reasoning: bool = False
    """Refuses temperature, logprobs and max_tokens, and thinks unseen."""
    tells_usage: bool = True
    breaks_after_500: bool = False
    """The next request on the same connection ends it, as some servers do after an error."""
    latency_s: float = 0.0
