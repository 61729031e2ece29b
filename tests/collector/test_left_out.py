"""Positions that do not count are in no statistic and come back as None."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from neuron_explainer.errors import SubjectError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.windows import FIT, RECORD, WindowTable
from neuron_explainer.subject.source import SubjectSource
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import ScriptedSource
from tests.tiny_models import byte_tokenizer, tiny_subject
from tests.tiny_stores import PLAN, collect_into

TOKENIZER = SubjectTokenizer(byte_tokenizer())
SKIPPED = TOKENIZER.display.index("t")


def counts(tokens: Tensor) -> Tensor:
    """All but the first position and some tokens: a window may have nothing left."""
    after_first = torch.arange(tokens.shape[1]) > 0
    return (tokens % 5 != SKIPPED % 5) & after_first


@pytest.fixture(scope="module")
def tokenizer() -> SubjectTokenizer:
    return TOKENIZER


@pytest.fixture(scope="module")
def store(tmp_path_factory, tokenizer):
    source = ScriptedSource(n_layers=2, n_units=4, counts=counts)
    return collect_into(tmp_path_factory.mktemp("left_out"), source, tokenizer)


def counted_rows(table: WindowTable, part, layer: int) -> dict[int, list[tuple[int, Tensor]]]:
    """window id -> (token, (unit,) activations) of the positions that count."""
    source = ScriptedSource(n_layers=2, n_units=4)
    found: dict[int, list[tuple[int, Tensor]]] = {}
    for window_id in (i for ids in table.ids(part) for i in ids.tolist()):
        tokens = torch.from_numpy(table.tokens(window_id)).long()[None]
        kept = counts(tokens)[0]

        def receive(_layer, acts, _, i=window_id, kept=kept, tokens=tokens) -> None:
            found[i] = [(int(tokens[0, p]), acts[0, p].clone()) for p in kept.nonzero()[:, 0]]

        source.read(tokens, [layer], receive)
    return found


def test_records_have_none_where_a_position_does_not_count(store) -> None:
    spread = {name: i for i, name in enumerate(store.vocabulary)}
    n_seen = 0
    for neuron_id in store.neuron_ids():
        record = store.read_neuron(neuron_id)
        banded = [window for stratum in record.strata for window in stratum.records]
        for window in (*record.top, *banded, *record.random):
            kept = counts(torch.tensor([[spread[t] for t in window.tokens]]))[0].tolist()
            assert [value is not None for value in window.activations] == kept
            assert any(kept)
            n_seen += 1
    assert n_seen > 100


def test_the_top_is_ranked_by_positions_that_count(store) -> None:
    for layer in (0, 1):
        windows = counted_rows(store.windows, RECORD, layer)
        for unit in range(4):
            maxima = sorted(
                (max(acts[unit].item() for _, acts in rows) for rows in windows.values() if rows),
                reverse=True,
            )
            top = store.read_neuron(NeuronId(layer, unit)).top
            assert [w.max_activation for w in top] == maxima[: PLAN.top_k]


def test_windows_without_a_position_that_counts_are_in_no_band(store) -> None:
    windows = counted_rows(store.windows, RECORD, 0)
    n_counted = sum(bool(rows) for rows in windows.values())
    assert n_counted < len(windows)
    record = store.read_neuron(NeuronId(0, 0))
    assert sum(stratum.population for stratum in record.strata) == n_counted - PLAN.top_k


def test_means_and_moments_are_over_positions_that_count(store, tokenizer) -> None:
    fit = [pair for rows in counted_rows(store.windows, FIT, 1).values() for pair in rows]
    recorded = [
        acts for rows in counted_rows(store.windows, RECORD, 1).values() for _, acts in rows
    ]
    for unit in range(4):
        neuron_id = NeuronId(1, unit)
        values = torch.stack(recorded)[:, unit].double()
        record = store.read_neuron(neuron_id)
        moments = record.moments
        assert moments.n_tokens == len(values)
        assert record.density == (values > 0).double().mean().item()
        assert moments.mean == pytest.approx(values.mean().item(), rel=1e-5, abs=1e-6)
        table = store.read_token_lookup(neuron_id)
        for token in {token for token, _ in fit}:
            own = torch.stack([acts[unit] for other, acts in fit if other == token]).double()
            name = tokenizer.display[token]
            assert table.mean_by_token[name] == pytest.approx(own.mean().item(), abs=1e-5)
            assert table.count_by_token[name] == len(own)


def test_a_value_that_is_not_finite_does_no_harm_where_it_does_not_count(
    tmp_path: Path, tokenizer
) -> None:
    source = ScriptedSource(n_layers=1, n_units=4, counts=counts)
    source._by_token[0, SKIPPED] = float("inf")
    assert collect_into(tmp_path / "skipped", source, tokenizer) is not None
    plain = ScriptedSource(n_layers=1, n_units=4)
    plain._by_token[0, SKIPPED] = float("inf")
    with pytest.raises(SubjectError, match="not finite"):
        collect_into(tmp_path / "counted", plain, tokenizer)


def read_counted(source: SubjectSource, tokens: Tensor) -> dict[int, Tensor | None]:
    found: dict[int, Tensor | None] = {}
    source.read(tokens, source.layers, lambda layer, _, counted: found.update({layer: counted}))
    return found


def test_the_first_positions_of_a_window_are_skipped() -> None:
    subject = tiny_subject()
    tokens = torch.arange(24).view(2, 12)
    assert read_counted(SubjectSource(subject), tokens) == {0: None, 1: None}
    for counted in read_counted(SubjectSource(subject, skip_first=3), tokens).values():
        assert counted is not None
        assert counted.tolist() == [[False] * 3 + [True] * 9] * 2


def test_tokens_whose_residual_stream_is_too_long_do_not_count() -> None:
    subject = tiny_subject()
    tokens = torch.arange(24).view(2, 12)
    with torch.no_grad():
        subject.model.transformer.wte.weight[5] *= 100
    hidden = subject.model(tokens, output_hidden_states=True).hidden_states
    found = read_counted(SubjectSource(subject, max_norm_ratio=4.0), tokens)
    for layer, counted in found.items():
        norms = hidden[layer].norm(dim=-1)
        assert counted is not None
        assert counted.tolist() == (norms <= 4 * norms.median()).tolist()
        assert not counted[0, 5]
        assert counted.sum() >= 20
