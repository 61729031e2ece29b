"""What would keep language models from being asked, found before hours of collecting."""

from __future__ import annotations

from pathlib import Path

from neuron_explainer.errors import UsageError
from neuron_explainer.llm.capabilities import ALL_AT_ONCE
from neuron_explainer.llm.openai_client import read_api_key
from neuron_explainer.llm.pieces import HfPieceTokenizer
from neuron_explainer.llm.prices import read_prices
from neuron_explainer.pipeline.batching import require_batch
from neuron_explainer.pipeline.methods import AUTO, explainer_name, simulator_name
from neuron_explainer.pipeline.model_names import price_of
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.subject.pretrained import load_tokenizer, read_config


def check_models(spec: RunSpec, *, are_asked: bool = True) -> None:
    """Nobody is asked and no weights are read. are_asked: False: nor will anybody be, so that no
    key has to be there.

    UsageError or SubjectError for a key, a price, a configuration or a tokenizer that is missing,
    or is none; RecordFormatError for a file of prices that is none.
    """
    require_batch(spec, spec.simulation)
    prices = read_prices(None if spec.prices is None else Path(spec.prices))
    names = (explainer_name(spec), simulator_name(spec))
    for name in dict.fromkeys(name for name in names if name is not None):
        if name.is_local:
            read_config(name.model)
            _check_tokenizer(name.model)
        elif are_asked:
            read_api_key(spec.api_key_env, name.base_url)
        if spec.budget_usd is not None and price_of(name, prices) is None:
            raise UsageError(
                f"no price is known for {name.model}, so --budget-usd cannot be kept; give it in a "
                "file with --prices"
            )
    if spec.simulator_tokenizer is not None and spec.simulation in (AUTO, ALL_AT_ONCE):
        _check_tokenizer(spec.simulator_tokenizer)


def _check_tokenizer(name: str) -> None:
    tokenizer = load_tokenizer(name)
    try:
        HfPieceTokenizer(tokenizer)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
