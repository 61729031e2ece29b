"""Language models by the name a user gives: `openai:MODEL` over HTTP, `hf:MODEL_OR_PATH` here."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from neuron_explainer.errors import UsageError
from neuron_explainer.llm.prices import FREE, Price, PriceTable

Provider = Literal["openai", "hf"]


@dataclass(frozen=True, slots=True)
class ModelName:
    provider: Provider
    model: str
    """As the server, or the hub, knows it."""
    base_url: str | None = None
    """The server's address; None: OpenAI's own."""

    def __str__(self) -> str:
        return f"{self.provider}:{self.model}"

    @property
    def is_local(self) -> bool:
        return self.provider == "hf"

    @property
    def is_near(self) -> bool:
        """Whether it runs on this machine or its own network, where nobody charges."""
        if self.is_local:
            return True
        host = urlsplit(self.base_url or "").hostname or ""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host == "localhost" or host.endswith((".local", ".localhost"))
        return address.is_private or address.is_loopback


def check_address(text: str, flag: str) -> None:
    """UsageError for what is no address of a server."""
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket, or a port that is none
        is_address = False
    if not is_address or any(character.isspace() for character in text):
        raise UsageError(f"{flag} {text!r} is no address; one is http://localhost:8000/v1, say")


def price_of(name: ModelName, prices: PriceTable) -> Price | None:
    """What runs near is free, unless a price for it is given; None: not known."""
    if name.is_local:
        return FREE
    return prices.find(name.model) or (FREE if name.is_near else None)


def parse_model_name(text: str, flag: str, base_url: str | None = None) -> ModelName:
    """`openai:gpt-4o-mini` -> ModelName("openai", "gpt-4o-mini", base_url); UsageError for anything
    else. A local model has no address."""
    provider, _, model = text.partition(":")
    model = model.strip()
    match provider.strip():
        case "openai" if model:
            return ModelName("openai", model, base_url)
        case "hf" if model:
            return ModelName("hf", model)
    raise UsageError(
        f"{flag} {text!r} is not known; write patterns, token_lookup, openai:MODEL (any server "
        "with OpenAI's protocol, see --base-url), or hf:MODEL (a hub id or a local folder)"
    )
