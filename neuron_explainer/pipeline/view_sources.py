"""What the viewer is handed: runs and published archives as sources; nothing heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from neuron_explainer.errors import StoreError, UsageError
from neuron_explainer.pipeline.archives import default_archive, open_archive
from neuron_explainer.pipeline.awaited_records import AwaitedRecords
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.kept_patterns import open_kept_patterns
from neuron_explainer.pipeline.records import find_manifest, has_records, open_records
from neuron_explainer.pipeline.shard_status import read_shards
from neuron_explainer.pipeline.view_published import (
    PublishedClaims,
    PublishedRows,
    read_token_means,
)
from neuron_explainer.published.locations import PUBLISHED_URL, find_dataset
from neuron_explainer.published.record_source import PublishedSource
from neuron_explainer.records.listed import ListedExplanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import Score
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.library import Library
from neuron_explainer.stores.pattern_store import PatternStore
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.result_rows import ResultRows
from neuron_explainer.stores.sqlite_file import is_writable
from neuron_explainer.viewer.sources import KEYS, RunClaims, ViewSource


def open_sources(
    runs: Sequence[RunFolder], published: Path | None, dataset: str
) -> list[ViewSource]:
    """Of the runs in their order, then of the archive; StoreError for what is not there."""
    if len(runs) + (published is not None) > len(KEYS):
        raise UsageError(f"at most {len(KEYS)} runs are viewed at once")
    paths = [run.path.resolve() for run in runs]
    for path in paths:
        if paths.count(path) > 1:
            raise UsageError(f"{path} is given twice; view another run beside it")
    titles = _titles([run.path for run in runs])
    sources = [
        run_source(key, title, run) for key, title, run in zip(KEYS, titles, runs, strict=False)
    ]
    if published is not None:
        sources.append(published_source(KEYS[len(sources)], published, dataset))
    return sources


def run_source(key: str, title: str, folder: RunFolder) -> ViewSource:
    """Whatever the run is at: its collection and its results are read as they come."""
    records = _open_or_await(folder)

    def open_patterns(choices: Mapping[str, Any]) -> AbstractContextManager[PatternStore | None]:
        return open_kept_patterns(folder, choices)

    def read_imported(neuron_id: NeuronId) -> tuple[tuple[str, UnitResult], ...]:
        if not folder.library.exists():
            return ()
        with Library(folder.library, read_only=True) as library:
            return tuple(_listed(one) for one in library.of_unit(neuron_id))

    def search_imported(
        words: str, layer_index: int | None, min_score: float | None, n: int
    ) -> list[tuple[str, UnitResult]]:
        if not folder.library.exists():
            return []
        with Library(folder.library, read_only=True) as library:
            found = library.search(words, layer_index=layer_index, min_score=min_score, limit=n)
        return [_listed(one) for one in found.hits]

    return ViewSource(
        key,
        title,
        records,
        _own_folder(folder.path),
        watched=(folder.results, Path(f"{folder.results}-wal")),
        records_file=find_manifest(folder),
        open_rows=lambda: ResultRows(folder.results),
        read_claims=RunClaims(folder.results, open_patterns),
        read_imported=read_imported,
        search_imported=search_imported,
    )


def published_source(key: str, archive: Path, dataset: str) -> ViewSource:
    """The published records and explanations that an archive holds."""
    found = find_dataset(dataset)
    if not archive.is_file() or not archive.stat().st_size:
        raise StoreError(f"no archive {archive}; run jobs/download.py first")
    with open_archive(archive, is_offline=False) as opened:  # an older one gets its name
        name = opened.name
    return ViewSource(
        key,
        f"{found.name}, as published",
        PublishedSource(archive, found, PUBLISHED_URL),
        _own_folder(archive.with_name(f"{archive.stem}.{found.name}.view"), name),
        watched=(archive, Path(f"{archive}-wal")),
        open_rows=lambda: PublishedRows(archive, found.name),
        read_claims=PublishedClaims(archive, found.name),
        read_token_means=partial(read_token_means, archive, found.name),
        asked="by those who published it; what it cost is not said",
    )


def _open_or_await(folder: RunFolder) -> RecordSource:
    """StoreError where no collection is there, and none was begun."""
    is_under_way = folder.progress.exists() or read_shards(folder) is not None
    if is_under_way and not has_records(folder):
        return AwaitedRecords(folder)
    return open_records(folder)


def _own_folder(beside: Path, name: str | None = None) -> Path:
    """The folder itself; where it may not be written, one of that name in the user's cache."""
    if is_writable(beside / "view.sqlite"):
        return beside
    from_root = str(beside.absolute()).strip(os.sep).replace(os.sep, "-")
    return default_archive().parent / "view" / (name or from_root)


def _titles(paths: Sequence[Path]) -> list[str]:
    """Names of the folders; with the one above where two are called the same."""
    names = [path.absolute().name for path in paths]
    return [
        name if names.count(name) == 1 else f"{path.absolute().parent.name}/{name}"
        for name, path in zip(names, paths, strict=True)
    ]


def _listed(one: ListedExplanation) -> tuple[str, UnitResult]:
    scores = dict(_scores(one))
    return one.source, UnitResult(
        one.neuron_id,
        one.explainer or "not said",
        one.text,
        None,
        scores,
        next(iter(scores), None),
        None if one.score is None else one.score.scorer,
        one.explainer_model,
    )


def _scores(one: ListedExplanation) -> Iterator[tuple[str, Score]]:
    for score in one.scores:
        kind = score.kind or "score"
        name = kind if score.scorer is None else f"{kind} by {score.scorer}"
        yield name, Score(kind, score.value, None)
