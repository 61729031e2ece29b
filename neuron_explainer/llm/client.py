"""What asks a language model; wrapped outermost first: cached(retrying(throttled(client)))."""

from __future__ import annotations

from typing import Protocol

from neuron_explainer.llm.messages import Completion, CompletionRequest


class LLMClient(Protocol):
    async def complete(self, request: CompletionRequest) -> Completion:
        """One answer to one question; LLMError when there is none, never an empty answer."""
