"""What language models cost: list prices in `prices.json`, and those that a user adds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.llm.messages import Usage

PACKAGED = Path(__file__).with_name("prices.json")
PICOUSD_A_TOKEN = 10**6
"""For each US dollar a million tokens; a picodollar is 1e-12 of one."""
_FINEST = Decimal("0.000001")
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars a million tokens, with at most six decimals: whole picodollars a token."""

    input: Decimal
    cached_input: Decimal
    """For the part of a prompt that the server reads from its cache."""
    output: Decimal
    cache_write: Decimal = Decimal(0)
    """For the part that it writes to its cache, where that costs more than `input`."""

    def __post_init__(self) -> None:
        for field in fields(self):
            price = getattr(self, field.name)
            if not (price.is_finite() and price >= 0 and price * PICOUSD_A_TOKEN % 1 == 0):
                raise ValueError(
                    f"{field.name} must be dollars a million tokens with at most six decimals, "
                    f"not {price}"
                )
        if self.cached_input > self.input:
            raise ValueError("cached_input costs more than input")

    def picousd(self, usage: Usage) -> int:
        """Exact where the server says how much it wrote to its cache, or where that costs no more
        than reading; else at most this."""
        n_read = min(usage.n_cached_tokens, usage.n_prompt_tokens)
        n_rest = usage.n_prompt_tokens - n_read
        n_written = n_rest
        if usage.n_cache_write_tokens is not None:
            n_written = min(usage.n_cache_write_tokens, n_rest)
        usd_per_million = (
            n_written * max(self.input, self.cache_write)
            + (n_rest - n_written) * self.input
            + n_read * self.cached_input
            + usage.n_completion_tokens * self.output
        )
        return int(usd_per_million * PICOUSD_A_TOKEN)

    def times(self, factor: Decimal) -> Price:
        """All of it so many times, rounded up to six decimals: 0.5 for a batch."""
        prices = (getattr(self, field.name) * factor for field in fields(self))
        return Price(*(price.quantize(_FINEST, ROUND_CEILING) for price in prices))


FREE = Price(Decimal(0), Decimal(0), Decimal(0))


class PriceTable:
    """Prices by the name of the model alone, whoever serves it."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = dict(prices)

    def find(self, model: str) -> Price | None:
        """Its own price, or that of the model whose dated snapshot it is; None: not known.

        Models that run here (`hf:`) cost nothing.
        """
        if model.startswith("hf:"):
            return FREE
        return self._prices.get(model) or self._prices.get(_DATED.sub("", model))


def read_prices(added: Path | None = None) -> PriceTable:
    """The packaged prices; those of the file `added`, of the same form, take their place."""
    prices = _read_file(PACKAGED)
    if added is not None:
        prices |= _read_file(added)
    return PriceTable(prices)


def _read_file(path: Path) -> dict[str, Price]:
    """RecordFormatError for a file that holds anything but prices."""
    try:
        raw = json.loads(path.read_text("utf-8"), parse_float=Decimal)
        return {str(model): _price(entry) for model, entry in raw["models"].items()}
    except OSError as error:
        raise RecordFormatError(path, error.strerror or str(error)) from error
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        form = '{"models": {"NAME": {"input": "2.50", "cached_input": "1.25", "output": "10"}}}'
        raise RecordFormatError(path, f"{error!r}; prices have the form {form}") from error


def _price(entry: Mapping[str, Any]) -> Price:
    unknown = set(entry) - {field.name for field in fields(Price)}
    if unknown:
        raise ValueError(f"no price is called {min(unknown)!r}")
    prices = {name: Decimal(value) for name, value in entry.items()}
    prices.setdefault("cached_input", prices["input"])
    return Price(**prices)
