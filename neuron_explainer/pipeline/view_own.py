"""Explanations that a person writes in the viewer, scored as those of the run are.

By the simulator, on the windows and with the choices of the run's current method, out of the run's
budget and its kept answers. Nothing is written to the run's results: these are the viewer's own.
"""

from __future__ import annotations

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from neuron_explainer.errors import BudgetExceeded
from neuron_explainer.llm.budget import charged_to
from neuron_explainer.llm.openai_client import address_of
from neuron_explainer.pipeline.counting import CountingModels
from neuron_explainer.pipeline.estimate import estimate
from neuron_explainer.pipeline.explain import Method
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept import KeptExplainer
from neuron_explainer.pipeline.methods import (
    make_scorer,
    make_simulator,
    resolve_simulation,
    simulator_name,
)
from neuron_explainer.pipeline.models import OpenModels
from neuron_explainer.pipeline.spec import RunSpec
from neuron_explainer.records.cost import PICOUSD
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId, NeuronRecord
from neuron_explainer.records.score import ScoredSimulation
from neuron_explainer.scoring.simulation import SimulationScorer
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.spending import SpendingStore
from neuron_explainer.viewer.hooks import OwnCost, OwnScore

BY_HAND = "by hand"
"""Explainer of what a person wrote."""


class OwnScorer:
    """One at a time, in a thread of its own, where its files and models stay."""

    def __init__(self, spec: RunSpec, folder: RunFolder, records: RecordSource) -> None:
        """spec: of `view_spec.spec_of_own`."""
        self._spec = spec
        self._folder = folder
        self._records = records
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="own explanations")
        self._kept: _Simulating | None = None
        """A local model stays in memory; to a server a new client goes each time, which also sees
        what other processes have spent."""

    def close(self) -> None:
        """Waits for what is under way."""
        self._worker.submit(self._close_kept).result()
        self._worker.shutdown()

    def cost(self, neuron_id: NeuronId, text: str) -> OwnCost:
        """At most; what was asked before is answered for nothing. Nobody is asked."""
        record = self._records.read_neuron(neuron_id)
        models = CountingModels(self._spec)
        simulation = resolve_simulation(self._spec, models)
        simulator = make_simulator(self._spec, models, simulation, self._records.manifest.n_ctx)
        method = Method(
            explainer=KeptExplainer({neuron_id: [_by_hand(neuron_id, text)]}),
            scorer=make_scorer(self._spec, simulator),
            choices={},
        )
        found = asyncio.run(estimate(method, models.tallies, [record], 1, models.find_price, {}))
        cost = found.cost_picousd
        return OwnCost(
            simulator=_address(self._spec),
            asked=found.asked(),
            cost_usd=None if cost is None else cost / PICOUSD,
            left_usd=self._left_usd(),
        )

    def score(self, neuron_id: NeuronId, text: str) -> OwnScore:
        """BudgetExceeded, before anybody is asked, where it may not fit; an LLMError where a
        window got no answer: then there is no score, and another try asks for the rest alone."""
        cost = self.cost(neuron_id, text)
        limit = self._spec.budget_usd
        if limit is not None and cost.left_usd is not None and not cost.fits:
            raise BudgetExceeded(limit - cost.left_usd, limit)
        record = self._records.read_neuron(neuron_id)
        return self._worker.submit(self._score, record, _by_hand(neuron_id, text)).result()

    def _left_usd(self) -> float | None:
        if self._spec.budget_usd is None:
            return None
        if not self._folder.spending.exists():
            return self._spec.budget_usd
        with SpendingStore(self._folder.spending) as spending:
            return max(0.0, self._spec.budget_usd - spending.total_picousd() / PICOUSD)

    def _score(self, record: NeuronRecord, explanation: Explanation) -> OwnScore:
        simulating = self._kept or _Simulating(self._spec, self._folder, self._records)
        if simulating.is_local:
            self._kept = simulating
        try:
            return simulating.score(record, explanation)
        finally:
            if simulating is not self._kept:
                simulating.close()

    def _close_kept(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None


class _Simulating:
    """The simulator and the models behind it, open."""

    def __init__(self, spec: RunSpec, folder: RunFolder, records: RecordSource) -> None:
        name = simulator_name(spec)
        self.is_local = name is not None and name.is_local
        with ExitStack() as opening:
            self._models = opening.enter_context(OpenModels(spec, folder))
            simulation = resolve_simulation(spec, self._models)
            n_ctx = records.manifest.n_ctx
            simulator = make_simulator(spec, self._models, simulation, n_ctx)
            self._scorer: SimulationScorer = make_scorer(spec, simulator)
            self._loop = opening.enter_context(asyncio.Runner())
            self._open = opening.pop_all()

    def close(self) -> None:
        self._open.close()

    def score(self, record: NeuronRecord, explanation: Explanation) -> OwnScore:
        purpose = f"view/{record.neuron_id}/{uuid.uuid4().hex}/"
        scored = self._loop.run(self._simulate(record, explanation, purpose))
        return OwnScore(scored, self._models.cost_of(purpose))

    async def _simulate(
        self, record: NeuronRecord, explanation: Explanation, purpose: str
    ) -> ScoredSimulation:
        charged_to.set(purpose)
        try:
            return await self._scorer.score(explanation, record)
        finally:
            if not self.is_local:
                await self._models.close_clients()


def _by_hand(neuron_id: NeuronId, text: str) -> Explanation:
    return Explanation(neuron_id, text.strip(), BY_HAND)


def _address(spec: RunSpec) -> str:
    """`openai:gpt-4o-mini at https://api.openai.com/v1`, `hf:model on this machine`"""
    name = simulator_name(spec)
    assert name is not None
    return f"{name} {'on this machine' if name.is_local else 'at ' + address_of(name.base_url)}"
