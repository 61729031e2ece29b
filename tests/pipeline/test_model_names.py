"""A model's name says who is asked, where, and who charges for it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from neuron_explainer.errors import UsageError
from neuron_explainer.llm.prices import FREE, Price, PriceTable
from neuron_explainer.pipeline.model_names import (
    ModelName,
    check_address,
    parse_model_name,
    price_of,
)

PRICE = Price(Decimal(1), Decimal(1), Decimal(2))
PRICES = PriceTable({"gpt-4o-mini": PRICE})
ELSEWHERE = "https://openrouter.ai/api/v1"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("openai:gpt-4o", ModelName("openai", "gpt-4o", ELSEWHERE)),
        ("openai:llama3.2:3b", ModelName("openai", "llama3.2:3b", ELSEWHERE)),
        ("openai:qwen/qwen3:free", ModelName("openai", "qwen/qwen3:free", ELSEWHERE)),
        (" openai : gpt-4o ", ModelName("openai", "gpt-4o", ELSEWHERE)),
        ("hf:./folder", ModelName("hf", "./folder")),
        ("hf:Qwen/Qwen2.5-1.5B-Instruct", ModelName("hf", "Qwen/Qwen2.5-1.5B-Instruct")),
    ],
)  # fmt: skip
def test_a_name_is_a_provider_and_all_that_follows(text: str, name: ModelName) -> None:
    assert parse_model_name(text, "--explainer", ELSEWHERE) == name
    assert parse_model_name(str(name), "--explainer", ELSEWHERE) == name


@pytest.mark.parametrize("text", ["", "gpt-4o", "openai", "openai:", "hf: ", "gpt:x", "OpenAI:x"])
def test_any_other_name_is_refused_with_the_flag_and_what_to_write(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--simulator '.*' is not known; write patterns, tok"):
        parse_model_name(text, "--simulator")


@pytest.mark.parametrize(
    ("base_url", "is_near"),
    [
        ("http://localhost:11434/v1", True),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000/v1", True),
        ("http://192.168.1.20/v1", True),
        ("http://gpu.local/v1", True),
        (None, False),
        (ELSEWHERE, False),
        ("http://8.8.8.8/v1", False),
        ("https://localhost.example.com/v1", False),
        ("https://localhost@example.com/v1", False),
    ],
)
def test_near_is_this_machine_and_its_own_network(base_url: str | None, is_near: bool) -> None:
    assert ModelName("openai", "x", base_url).is_near is is_near


def test_what_runs_near_is_free_unless_a_price_is_given() -> None:
    near, far = "http://localhost:8000/v1", ELSEWHERE
    assert price_of(ModelName("hf", "gpt-4o-mini"), PRICES) == FREE
    assert price_of(ModelName("openai", "other", near), PRICES) == FREE
    assert price_of(ModelName("openai", "gpt-4o-mini", near), PRICES) == PRICE
    assert price_of(ModelName("openai", "gpt-4o-mini", far), PRICES) == PRICE
    assert price_of(ModelName("openai", "other", far), PRICES) is None


@pytest.mark.parametrize("text", ["http://localhost:8000/v1", "https://a.b", "http://[::1]:80/v1"])
def test_an_address_names_a_protocol_and_a_host(text: str) -> None:
    check_address(text, "--base-url")


@pytest.mark.parametrize(
    "text", ["", "localhost:8000", "ftp://a/v1", "http://", "http:///v1", "http://[::1/v1",
             "http://a:b/v1", "http://a:99999/v1", "http://a b/v1", "http://a/v1\n"],
)  # fmt: skip
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--base-url '.*' is no address; one is http://local"):
        check_address(text, "--base-url")
