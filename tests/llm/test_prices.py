"""Prices: the packaged list, a user's own, and sums without rounding."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from neuron_explainer.errors import RecordFormatError
from neuron_explainer.llm.messages import Usage
from neuron_explainer.llm.prices import FREE, PACKAGED, Price, read_prices

PRICE = Price(Decimal("2.50"), Decimal("1.25"), Decimal(10))


def write(path: Path, models: object) -> Path:
    path.write_text(json.dumps({"models": models}), "utf-8")
    return path


def test_a_price_is_found_by_the_exact_name_then_without_its_date() -> None:
    prices = read_prices()
    assert prices.find("gpt-4o") == PRICE
    assert prices.find("gpt-4o-2024-08-06") == PRICE
    assert prices.find("gpt-4o-2024-05-13") == Price(Decimal(5), Decimal(5), Decimal(15))
    assert prices.find("hf:gpt2") == FREE


@pytest.mark.parametrize("model", ["", "gpt-4o-unheard-of", "llama3", "ft:gpt-4o-mini:me::1"])
def test_a_model_without_a_price_has_none(model: str) -> None:
    assert read_prices().find(model) is None


def test_the_packaged_list_says_of_when_and_whence_it_is() -> None:
    raw = json.loads(PACKAGED.read_text("utf-8"))
    assert raw["as_of"] >= "2026"
    assert "openai.com" in raw["source"]
    for model in raw["models"]:
        price = read_prices().find(model)
        assert price is not None
        assert 0 < price.input <= price.output
        assert price.cached_input <= price.input


def test_a_users_prices_come_before_the_packaged_ones(tmp_path: Path) -> None:
    models = {"gpt-4o": {"input": 1.1, "output": "3"}, "mine": {"input": 0, "output": 0}}
    prices = read_prices(write(tmp_path / "prices.json", models))
    assert prices.find("gpt-4o") == Price(Decimal("1.1"), Decimal("1.1"), Decimal(3))
    assert prices.find("mine") == FREE
    assert prices.find("gpt-4o-mini") == read_prices().find("gpt-4o-mini")


@pytest.mark.parametrize(
    "models",
    [
        [],
        {"m": 3},
        {"m": {"input": "1"}},
        {"m": {"input": "1", "output": "x"}},
        {"m": {"input": "-1", "output": "1"}},
        {"m": {"input": "NaN", "output": "1"}},
        {"m": {"input": float("nan"), "output": 1}},
        {"m": {"input": "0.0000001", "output": "1"}},
        {"m": {"input": "1", "cached_input": "2", "output": "1"}},
        {"m": {"input": "1", "output": "1", "ouput": "1"}},
        {"m": {"input": None, "output": "1"}},
    ],
)
def test_a_file_that_holds_no_prices_is_refused_in_one_line(tmp_path: Path, models) -> None:
    path = write(tmp_path / "prices.json", models)
    with pytest.raises(RecordFormatError, match=r"prices\.json: ") as raised:
        read_prices(path)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordFormatError, match=r"absent\.json: No such file"):
        read_prices(tmp_path / "absent.json")


@pytest.mark.parametrize("price", [PRICE, Price(Decimal("0.037"), Decimal("0.000002"), Decimal(7))])
def test_costs_are_exact(price: Price) -> None:
    usage = Usage(n_prompt_tokens=1_234_567, n_cached_tokens=1_000_001, n_completion_tokens=89)
    in_dollars = (
        234_566 * Fraction(price.input)
        + 1_000_001 * Fraction(price.cached_input)
        + 89 * Fraction(price.output)
    ) / 10**6
    assert price.picousd(usage) == in_dollars * 10**12
    assert price.times(Decimal("0.5")).picousd(usage) * 2 == price.picousd(usage)


def test_half_of_the_smallest_price_is_rounded_up() -> None:
    price = Price(Decimal("0.000003"), Decimal("0.000001"), Decimal(4)).times(Decimal("0.5"))
    assert price == Price(Decimal("0.000002"), Decimal("0.000001"), Decimal(2))


def test_a_prompt_that_may_be_written_to_the_cache_costs_the_dearer_of_the_two() -> None:
    price = Price(Decimal(2), Decimal("0.2"), Decimal(10), cache_write=Decimal("2.5"))
    assert price.picousd(Usage(100, 40, 0)) == (60 * 2_500_000 + 40 * 200_000)


def test_what_the_server_says_it_wrote_to_the_cache_is_charged_exactly() -> None:
    price = Price(Decimal(2), Decimal("0.2"), Decimal(10), cache_write=Decimal("2.5"))
    usage = Usage(100, 40, 0, n_cache_write_tokens=25)
    assert price.picousd(usage) == 25 * 2_500_000 + 35 * 2_000_000 + 40 * 200_000
    assert PRICE.picousd(usage) == PRICE.picousd(Usage(100, 40, 0))  # writing is in the input
    impossible = Usage(100, 40, 0, n_cache_write_tokens=10**6)
    assert price.picousd(impossible) == price.picousd(Usage(100, 40, 0))
