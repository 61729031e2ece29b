"""What `view` hands its pages beside files: a subject, a simulator, a run's status."""

# Imports are inside the functions that are called on first use: pages do not wait for torch.

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.spec import RunSpec

if TYPE_CHECKING:
    from neuron_explainer.pipeline.view_hooks import Makers, Subject
    from neuron_explainer.stores.record_source import RecordSource
    from neuron_explainer.viewer.hooks import Hooks
    from neuron_explainer.viewer.sources import ViewSource


def open_hooks(
    opened: ExitStack,
    sources: Sequence[ViewSource],
    folders: Sequence[RunFolder],
    published: Path | None,
    dataset: str,
    spec: RunSpec,
) -> dict[str, Hooks]:
    """By the source's key. folders: of the first sources; one more is the published archive.

    opened: closes them. spec: how models are reached, the device, the budget.
    """
    from neuron_explainer.pipeline.view_hooks import open_run_hooks, published_hooks
    from neuron_explainer.pipeline.view_published import PublishedWeights

    hooks: dict[str, Hooks] = {}
    for source, folder in zip(sources, folders, strict=False):
        makers = _makers(spec, folder, source.records)
        hooks[source.key] = opened.enter_context(open_run_hooks(spec, folder, makers))
    if published is not None:
        source = sources[len(folders)]
        ask = partial(_ask_published, spec, dataset, source.records)
        hooks[source.key] = published_hooks(ask, PublishedWeights(published, dataset))
    return hooks


def _makers(spec: RunSpec, folder: RunFolder, records: RecordSource) -> Makers:
    from neuron_explainer.pipeline.view_hooks import Makers, Scorer

    def make_subject() -> Subject:
        from neuron_explainer.pipeline.records import open_records
        from neuron_explainer.pipeline.view_asked import ask_collected

        # Of `records` it may not have been known yet what they are.
        return ask_collected(spec, folder, open_records(folder))

    def make_scorer(own: RunSpec) -> Scorer:
        from neuron_explainer.pipeline.view_own import OwnScorer

        return OwnScorer(own, folder, records)

    return Makers(make_subject, make_scorer)


def _ask_published(spec: RunSpec, dataset: str, records: RecordSource) -> Subject:
    from neuron_explainer.pipeline.records import HUB_IDS
    from neuron_explainer.pipeline.view_asked import ask_published
    from neuron_explainer.pipeline.view_hooks import PublishedSubject

    return ask_published(spec, PublishedSubject(HUB_IDS[dataset], "quick_gelu"), records)
