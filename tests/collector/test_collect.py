"""The collector against a slow and obvious one, and its invariances."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neuron_explainer.collector.moments import PowerSums
from neuron_explainer.collector.plans import BAND_QUANTILES, CollectPlan
from neuron_explainer.collector.sampling import hash_windows
from neuron_explainer.errors import SubjectError
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.stores.windows import FIT, RECORD, WindowTable
from neuron_explainer.subject.source import SubjectSource
from neuron_explainer.subject.tokens import SubjectTokenizer
from tests.fakes import ScriptedSource
from tests.tiny_models import byte_tokenizer, tiny_subject
from tests.tiny_stores import PLAN, collect_into, files_digest

N_VOCABULARY = 257


@pytest.fixture(scope="module")
def tokenizer() -> SubjectTokenizer:
    return SubjectTokenizer(byte_tokenizer())


def window_activations(source, table: WindowTable, part) -> dict[int, dict[int, Tensor]]:
    """layer -> window id -> (seq, unit), one window at a time."""
    found: dict[int, dict[int, Tensor]] = defaultdict(dict)
    for window_id in np.concatenate(list(table.ids(part))).tolist():
        tokens = torch.from_numpy(table.tokens(window_id).astype(np.int64))[None]
        source.read(
            tokens,
            source.layers,
            lambda layer, acts, _, i=window_id: found[layer].__setitem__(i, acts[0].clone()),
        )
    return found


@pytest.fixture(scope="module")
def scripted(tmp_path_factory, tokenizer):
    source = ScriptedSource(n_layers=2, n_units=9)
    return source, collect_into(tmp_path_factory.mktemp("scripted"), source, tokenizer)


def test_top_is_that_of_a_full_sort_with_ties_to_the_earlier_window(scripted) -> None:
    source, store = scripted
    for layer, windows in window_activations(source, store.windows, RECORD).items():
        for unit in range(source.n_units(layer)):
            ranked = sorted(windows, key=lambda i: (-windows[i][:, unit].max().item(), i))
            top = store.read_neuron(NeuronId(layer, unit)).top
            expected = [windows[i][:, unit].half().tolist() for i in ranked[: PLAN.top_k]]
            assert [list(record.activations) for record in top] == expected


def test_bands_hold_the_smallest_hashes_and_exact_populations(scripted) -> None:
    source, store = scripted
    fit = window_activations(source, store.windows, FIT)
    record = window_activations(source, store.windows, RECORD)
    fit_ids = torch.tensor(sorted(fit[0]))
    drawn = fit_ids[hash_windows(fit_ids, PLAN.seed, "drawn").argsort()[: PLAN.n_boundary_windows]]
    for layer in source.layers:
        for unit in range(source.n_units(layer)):
            maxima = sorted(fit[layer][i][:, unit].max().item() for i in drawn.tolist())
            edges = [maxima[int(np.ceil(q * len(maxima))) - 1] for q in BAND_QUANTILES]
            ranked = sorted(
                record[layer], key=lambda i: (-record[layer][i][:, unit].max().item(), i)
            )
            bands = defaultdict(list)
            for i in ranked[PLAN.top_k :]:
                largest = record[layer][i][:, unit].max().item()
                bands[sum(largest >= edge for edge in edges)].append(i)
            strata = store.read_neuron(NeuronId(layer, unit)).strata
            assert [s.population for s in strata] == [len(bands[b]) for b in range(5)]
            for b, stratum in enumerate(strata):
                ids = torch.tensor(sorted(bands[b]), dtype=torch.int64)
                kept = ids[hash_windows(ids, PLAN.seed, "band").argsort()[: PLAN.n_a_band]]
                expected = [record[layer][i][:, unit].half().tolist() for i in kept.tolist()]
                assert [list(r.activations) for r in stratum.records] == expected


def test_random_windows_are_shared_and_never_repeat_a_top_or_band_window(scripted) -> None:
    source, store = scripted
    for layer in source.layers:
        for unit in range(source.n_units(layer)):
            neuron = store.read_neuron(NeuronId(layer, unit))
            banded = [r for s in neuron.strata for r in s.records]
            assert not set(neuron.random) & {*neuron.top, *banded}
            assert len(neuron.random) <= PLAN.n_random


def test_token_means_are_those_of_the_fit_text(scripted, tokenizer) -> None:
    source, store = scripted
    for layer, windows in window_activations(source, store.windows, FIT).items():
        tokens = torch.cat([torch.from_numpy(store.windows.tokens(i)) for i in sorted(windows)])
        acts = torch.cat([windows[i] for i in sorted(windows)]).double()
        for unit in range(source.n_units(layer)):
            table = store.read_token_lookup(NeuronId(layer, unit))
            assert table.default == pytest.approx(acts[:, unit].mean().item(), abs=1e-6)
            for token in tokens.unique().tolist():
                expected = acts[tokens == token, unit].mean().item()
                name = tokenizer.display[token]
                assert table.mean_by_token[name] == pytest.approx(expected, abs=1e-6)
                assert table.count_by_token[name] == int((tokens == token).sum())


def test_tokens_beyond_the_budget_share_one_mean(tmp_path, tokenizer) -> None:
    source = ScriptedSource(n_layers=1, n_units=4)
    budget = CollectPlan(n_ctx=16, block_size=8, token_means_gb=8 * 4 * 6 / 1e9)  # 5 rows, 1 shared
    store = collect_into(tmp_path, source, tokenizer, budget)
    windows = window_activations(source, store.windows, FIT)[0]
    tokens = torch.cat([torch.from_numpy(store.windows.tokens(i)) for i in sorted(windows)])
    acts = torch.cat([windows[i] for i in sorted(windows)]).double()
    frequent = tokens.bincount(minlength=N_VOCABULARY).argsort(descending=True, stable=True)[:5]
    shared = ~torch.isin(tokens, frequent)
    for unit in range(source.n_units(0)):
        table = store.read_token_lookup(NeuronId(0, unit))
        assert set(table.mean_by_token) == {tokenizer.display[t] for t in frequent.tolist()}
        assert table.default == pytest.approx(acts[shared, unit].mean().item(), abs=1e-6)
    assert store.manifest.coverage == pytest.approx(1 - shared.double().mean().item())


def test_moments_are_those_of_numpy_in_float64(scripted) -> None:
    source, store = scripted
    for layer, windows in window_activations(source, store.windows, RECORD).items():
        acts = torch.cat(list(windows.values())).double().numpy()
        for unit in range(source.n_units(layer)):
            record = store.read_neuron(NeuronId(layer, unit))
            moments = record.moments
            x = acts[:, unit]
            assert record.density == (x > 0).mean()
            z = (x - x.mean()) / x.std()
            assert moments.n_tokens == len(x)
            assert moments.mean == pytest.approx(x.mean(), rel=1e-6, abs=1e-6)
            assert moments.variance == pytest.approx(x.var(), rel=1e-5)
            assert moments.skewness == pytest.approx((z**3).mean(), rel=1e-4, abs=1e-5)
            assert moments.kurtosis == pytest.approx((z**4).mean(), rel=1e-4)


@pytest.mark.parametrize("block_size", [1, 3, 64])
def test_records_do_not_depend_on_the_block_size(scripted, tmp_path, tokenizer, block_size) -> None:
    source, store = scripted
    other = collect_into(
        tmp_path, source, tokenizer, CollectPlan(
            n_ctx=16, block_size=block_size, top_k=6, n_a_band=3, n_random=7, n_boundary_windows=60
        ),
    )  # fmt: skip
    for neuron_id in store.neuron_ids():
        one, two = store.read_neuron(neuron_id), other.read_neuron(neuron_id)
        assert (one.top, one.strata, one.random) == (two.top, two.strata, two.random)


def test_the_same_collection_twice_gives_the_same_bytes(tmp_path, tokenizer) -> None:
    subject = tiny_subject()
    for name in ("one", "two"):
        collect_into(tmp_path / name, SubjectSource(subject), tokenizer)
    assert files_digest(tmp_path / "one") == files_digest(tmp_path / "two")


def test_through_the_model_the_block_size_moves_values_within_rounding(
    tmp_path: Path, tokenizer: SubjectTokenizer
) -> None:
    source = SubjectSource(tiny_subject())
    stores = [
        collect_into(tmp_path / str(size), source, tokenizer, replace(PLAN, block_size=size))
        for size in (5, 64)
    ]
    for neuron_id in stores[0].neuron_ids():
        one, two = (store.read_neuron(neuron_id) for store in stores)
        maxima = [[record.max_activation for record in neuron.top] for neuron in (one, two)]
        assert maxima[0] == pytest.approx(maxima[1], abs=2e-3)
        assert one.moments.mean == pytest.approx(two.moments.mean, abs=1e-5)


def test_through_the_model_records_are_what_a_plain_forward_gives(tmp_path, tokenizer) -> None:
    subject = tiny_subject()
    store = collect_into(tmp_path, SubjectSource(subject), tokenizer)
    spread = {name: i for i, name in enumerate(tokenizer.display)}
    seen: dict[int, Tensor] = {}
    for layer in range(2):
        subject.model.transformer.h[layer].mlp.act.register_forward_hook(
            lambda _module, _args, output, layer=layer: seen.__setitem__(layer, output)
        )
    for neuron_id in [NeuronId(0, 3), NeuronId(1, 63)]:
        for record in store.read_neuron(neuron_id).top[:2]:
            with torch.no_grad():
                subject.model(torch.tensor([[spread[t] for t in record.tokens]]))
            real = seen[neuron_id.layer_index][0, :, neuron_id.neuron_index]
            torch.testing.assert_close(torch.tensor(record.activations), real, atol=2e-3, rtol=1e-3)


def test_activations_beyond_float16_are_kept_whole(tmp_path, tokenizer) -> None:
    source = ScriptedSource(n_layers=1, n_units=4, scale=1e6)
    store = collect_into(tmp_path, source, tokenizer)
    windows = window_activations(source, store.windows, RECORD)[0]
    largest = max(acts[:, 0].max().item() for acts in windows.values())
    assert largest > 65504
    assert store.read_neuron(NeuronId(0, 0)).max_activation == largest


def test_activations_that_are_not_finite_stop_the_run(tmp_path, tokenizer) -> None:
    source = ScriptedSource(n_layers=1, n_units=4, scale=float("nan"))
    with pytest.raises(SubjectError, match="layer 0 gave activations that are not finite"):
        collect_into(tmp_path, source, tokenizer)
    assert not (tmp_path / "store.json").exists()


class BrokenSource(ScriptedSource):
    """One activation that is not finite, on one token of one part's windows."""

    def __init__(self, value: float, token: int) -> None:
        super().__init__(n_layers=1, n_units=4)
        self._by_token[0, token, 2] = value


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_one_activation_that_is_not_finite_is_enough_in_either_pass(
    tmp_path: Path, tokenizer: SubjectTokenizer, value: float
) -> None:
    for token in (tokenizer.display.index(character) for character in "tT4"):
        with pytest.raises(SubjectError, match="not finite"):
            collect_into(tmp_path / str(token), BrokenSource(value, token), tokenizer)


def test_a_unit_that_is_constant_on_the_record_text_has_no_skewness() -> None:
    for centre, constant in ((0.3, -0.1637), (0.001234, 0.0), (5.0, 4.0)):
        sums = PowerSums(torch.tensor([centre, 0.0]))
        varying = torch.randn(64, 64, 1, generator=torch.Generator().manual_seed(0))
        for _ in range(4):
            both = torch.cat([torch.full_like(varying, constant), varying], dim=2)
            sums.add(both.flatten(0, 1))
        moments = sums.moments()
        assert moments.variance[0] == 0
        assert moments.third[0] == moments.fourth[0] == 0
        assert moments.mean[0].item() == pytest.approx(constant, abs=1e-6)
        kurtosis = moments.fourth[1] / moments.variance[1] ** 2
        assert kurtosis.item() == pytest.approx(3, abs=0.2)
