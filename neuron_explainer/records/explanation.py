"""A claim about a unit, and the rule behind a claim that was made without a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from neuron_explainer.records.neuron import NeuronId


class Rule(Protocol):
    """Predicts a unit's activations by itself."""

    def expected_activations(self, tokens: Sequence[str]) -> tuple[float, ...]:
        """Raw, one a token."""


@dataclass(frozen=True, slots=True)
class TokenLookupTable:
    """Mean activation by current token (Bills et al. 2023, the token lookup baseline)."""

    mean_by_token: Mapping[str, float]
    """Display string -> mean raw activation over the fit documents."""
    count_by_token: Mapping[str, int]
    """Display string -> occurrences in the fit documents, at least 1."""
    default: float
    """Mean raw activation over all tokens that have no row of their own."""

    def expected_activation(self, token: str) -> float:
        return self.mean_by_token.get(token, self.default)

    def expected_activations(self, tokens: Sequence[str]) -> tuple[float, ...]:
        return tuple(map(self.expected_activation, tokens))


@dataclass(frozen=True, slots=True)
class Explanation:
    """A claim about one unit and what made it."""

    neuron_id: NeuronId
    text: str
    """What the unit responds to, in words."""
    explainer: str
    """Name of the method, such as `token_lookup`."""
    model: str | None = None
    """Model that was asked; None when none was."""
    prompt_version: str | None = None
    rule: Rule | None = field(default=None, compare=False, repr=False)
    """What a rule-based simulator predicts with; None for a claim in words alone."""
