"""The two language models of a revision: one writes test sentences, one revises the explanation.

Bills et al. 2023, "Revising explanations".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from neuron_explainer.errors import CannotExplain, ParseError, Refused
from neuron_explainer.llm.client import LLMClient
from neuron_explainer.llm.messages import CompletionRequest, Message
from neuron_explainer.prompts.revise import (
    MARK_FROM,
    REVISION_VERSION,
    NewTexts,
    mark_active,
    parse_revision,
    parse_sentences,
    revision_messages,
    sentence_messages,
)
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import ActivationRecord

EXPLAINER = "revision"
"""What a revised explanation names as its method."""
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class AskedModel:
    """A language model, and how it is asked."""

    client: LLMClient
    model: str
    """As the server knows it."""
    name: str
    """As it is shown, such as `openai:gpt-4o`."""
    max_tokens: int = 1000
    """Of an answer; a reasoning model's thoughts count too."""
    temperature: float | None = 0.0
    """None: not sent, as reasoning models demand."""
    reasoning_effort: str | None = None

    async def ask(
        self, messages: tuple[Message, ...], parse: Callable[[str, bool], Parsed], what: str
    ) -> Parsed:
        """`parse` takes the answer, and whether it was cut off.

        CannotExplain when the model refuses, or answers what cannot be read as `what`.
        """
        request = CompletionRequest(
            self.model,
            messages,
            self.max_tokens,
            temperature=self.temperature,
            reasoning_effort=self.reasoning_effort,
        )
        try:
            completion = await self.client.ask(request)
            return parse(completion.text, completion.finish_reason == "length")
        except Refused as error:
            raise CannotExplain(f"{what} refused: {error}") from error
        except ParseError as error:
            raise CannotExplain(f"unreadable {what}: {error}") from error


@dataclass(frozen=True, slots=True)
class SentenceWriter:
    """Writes sentences that should make the unit active if the explanation is right."""

    asked: AskedModel

    async def write(self, explanation: Explanation, n_sentences: int) -> tuple[str, ...]:
        """Different sentences, at least one and `n_sentences` at the most."""
        return await self.asked.ask(
            sentence_messages(explanation.text, n_sentences),
            lambda text, is_cut: parse_sentences(text, n_sentences, is_cut=is_cut),
            "test sentences",
        )


@dataclass(frozen=True, slots=True)
class NewEvidence:
    """What a reviser learns beside the windows that the explanation was made from."""

    records: tuple[ActivationRecord, ...]
    source: NewTexts


@dataclass(frozen=True, slots=True)
class Reviser:
    """Writes an explanation anew, in the light of new evidence."""

    asked: AskedModel
    mark_from: int = MARK_FROM
    """Normalized activation from which on a token is marked, and a text is no false positive."""

    async def revise(
        self,
        explanation: Explanation,
        evidence: tuple[ActivationRecord, ...],
        new: NewEvidence,
        max_activation: float,
    ) -> Explanation:
        """`evidence`: windows that an explainer may see; `max_activation`: the unit's own.

        The result is a claim in words, even where the explanation had a rule behind it.
        """
        shown, tests = (
            tuple(mark_active(record, max_activation, self.mark_from) for record in records)
            for records in (evidence, new.records)
        )
        text = await self.asked.ask(
            revision_messages(explanation.text, shown, tests, new.source),
            lambda text, is_cut: parse_revision(text, is_cut=is_cut),
            "revision",
        )
        return Explanation(
            explanation.neuron_id,
            text,
            explainer=EXPLAINER,
            model=self.asked.name,
            prompt_version=REVISION_VERSION,
        )
