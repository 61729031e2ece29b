"""What is rescored: whose explanations, on whose windows, of which units.

kept explanations     windows
a run's own           those they were made from
published             as published, or of a run over the same subject
imported lists        of a run, as published, the folder's own, or collected for these units
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from neuron_explainer.collector.corpus import open_corpus
from neuron_explainer.errors import (
    CannotExplain,
    SpecMismatch,
    StoreError,
    UnitNotFound,
    UsageError,
)
from neuron_explainer.pipeline.collect import collect, open_material
from neuron_explainer.pipeline.events import Listener, Noted, ignore
from neuron_explainer.pipeline.fetch import PublishedPlace, fetch_units
from neuron_explainer.pipeline.folder import RunFolder, describe_differences
from neuron_explainer.pipeline.kept import NOTHING_TO_KEEP, Kept, keep_own
from neuron_explainer.pipeline.kept_listed import ListedUnits, choose_listed, read_lists
from neuron_explainer.pipeline.kept_published import keep_published
from neuron_explainer.pipeline.records import (
    PUBLISHED,
    has_records,
    open_records,
    published_choices,
    read_subject_choices,
    run_choices,
)
from neuron_explainer.pipeline.spec import COLLECT, RunSpec, parse_layers
from neuron_explainer.pipeline.unit_choice import choose_neurons, names_neurons, resolve_units
from neuron_explainer.published.locations import PUBLISHED_URL, Kind, find_dataset
from neuron_explainer.published.record_source import SITE, PublishedSource
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.subject_names import is_same_subject
from neuron_explainer.stores.record_source import RecordSource
from neuron_explainer.stores.results import Results

DEFAULT_DATASET = "gpt2-xl"
MOST_LAYERS = 10_000
"""More than any model has; those of a folder's model are not read for a flag."""


@dataclass(frozen=True, slots=True)
class RescoreSource:
    """What a user names; without anything: the run's own explanations on its own windows."""

    is_published: bool = False
    imported: tuple[Path, ...] = ()
    """Lists of explanations, as `import` takes them."""
    windows: str | None = None
    """`published`, or the folder of a run; None: as the table above has it."""
    method: str | None = None
    """Which of a run's methods; None: the current one."""
    dataset: str | None = None
    """Of what is published; None: the one that the lists are of, or GPT-2 XL."""
    source: str = PUBLISHED_URL
    archive: Path | None = None
    is_offline: bool = False

    def __post_init__(self) -> None:
        """UsageError for flags that do not go together."""
        if self.is_published and self.imported:
            raise UsageError("--published and --imported name two origins; give one of them")
        is_elsewhere = self.is_published or bool(self.imported)
        if self.method is not None and is_elsewhere:
            raise UsageError("--method is one of a run's; --published and --imported have none")
        if self.windows is not None and not is_elsewhere:
            raise UsageError("--windows goes with --published or --imported")
        if self.is_published and self.windows == PUBLISHED:
            raise UsageError("--published takes the published windows by itself")
        if not self.is_published and self.windows != PUBLISHED:
            place = (self.dataset, self.archive, self.is_offline or None)
            if any(given is not None for given in place) or self.source != PUBLISHED_URL:
                raise UsageError(
                    "--dataset, --source, --archive and --offline go with --published or "
                    "--windows published"
                )

    def place(self, dataset: str) -> PublishedPlace:
        return PublishedPlace(
            find_dataset(self.dataset or dataset), self.source, self.archive, self.is_offline
        )


@dataclass(frozen=True, slots=True)
class Rescoring:
    """What is opened for it."""

    records: RecordSource
    kept: Kept
    neuron_ids: list[NeuronId]
    """To score, in the order of the work."""
    listed: ListedUnits | None = None
    """Where the explanations are of lists."""
    left_out: Counter[str] = field(default_factory=Counter)
    """What was not taken, by reason."""


@contextmanager
def open_rescoring(
    source: RescoreSource, spec: RunSpec, folder: RunFolder, listen: Listener
) -> Iterator[tuple[Rescoring, Results]]:
    """Everything before language models are asked: documents are fetched, windows collected, and
    the folder is that of these records from now on; SpecMismatch when it is another's.
    """
    if source.is_published:
        opening = _open_published
    elif source.imported:
        opening = _open_imported
    else:
        opening = open_own
    prepared = opening(source, spec, folder, listen)
    with Results(folder.results) as results:
        yield prepared(results), results


Prepared = Callable[[Results], Rescoring]
"""The rest, when it is certain that the folder may be written to."""


def open_own(source: RescoreSource, spec: RunSpec, folder: RunFolder, listen: Listener) -> Prepared:
    """A run's own explanations, on its own windows; SpecMismatch for flags of other ones."""
    del listen
    records = open_records(folder)
    check_given(spec, folder)

    def prepare(results: Results) -> Rescoring:
        kept, left_out = keep_own(results, source.method), Counter[str]()
        chosen = choose_neurons(spec.neurons, records.neuron_ids(), spec.seed)
        explained = [neuron_id for neuron_id in chosen if neuron_id in kept.explanations]
        if spec.neurons is not None and not names_neurons(spec.neurons):
            everyone = choose_neurons(None, records.neuron_ids(), spec.seed)
            explained = [i for i in everyone if i in kept.explanations][: len(chosen)]
        elif spec.neurons is not None and len(explained) < len(chosen):
            left_out[NOTHING_TO_KEEP] = len(chosen) - len(explained)
        return Rescoring(records, kept, explained, left_out=left_out)

    return prepare


def _open_published(
    source: RescoreSource, spec: RunSpec, folder: RunFolder, listen: Listener
) -> Prepared:
    place = source.place(DEFAULT_DATASET)
    published = place.records()
    there, kinds = list(published.neuron_ids()), [Kind.EXPLANATIONS]
    if source.windows is None:
        records: RecordSource = published
        kinds.append(Kind.ACTIVATIONS)
        folder.claim(published_choices(place.dataset.name, place.address, place.archive_path))
    else:
        records = _open_windows(source.windows, folder)
        check_given(spec, folder)
        check_subject(place.dataset.name, records)
        units = published.manifest.units
        there = [neuron_id for neuron_id in records.neuron_ids() if neuron_id in units]
    chosen = choose_neurons(spec.neurons_wanted, there, spec.seed)
    fetched = fetch_units(place, chosen, kinds, listen)
    left_out = Counter(fetched.left_out)
    neuron_ids = list(fetched.neuron_ids)
    if records is published:
        neuron_ids = _count_windows(published, neuron_ids, left_out)

    def prepare(results: Results) -> Rescoring:
        kept = keep_published(results, place, neuron_ids, left_out)
        return Rescoring(records, kept, neuron_ids, left_out=left_out)

    return prepare


def _open_imported(
    source: RescoreSource, spec: RunSpec, folder: RunFolder, listen: Listener
) -> Prepared:
    lists = Lists(source, spec, listen)
    left_out = lists.left_out
    if source.windows == PUBLISHED:
        place = lists.place()
        published = place.records()
        found = lists.choose(place.dataset.name, SITE, set(published.neuron_ids()))
        folder.claim(published_choices(place.dataset.name, place.address, place.archive_path))
        fetched = fetch_units(place, list(found.by_unit), (Kind.ACTIVATIONS,), listen)
        left_out.update(fetched.left_out)
        neuron_ids = _count_windows(published, list(fetched.neuron_ids), left_out)
        return _prepare_listed(published, found.of_units(neuron_ids))
    if source.windows is None and not has_records(folder):
        Lists(source, spec, ignore).choose(spec.model, SITE, None)  # known before a model is loaded
        material = open_material(spec)
        found = lists.choose(spec.model, SITE, set(resolve_units(spec, material.subject)))
        units = ",".join(map(str, sorted(found.by_unit)))
        records: RecordSource = collect(replace(spec, units=units), material, folder, listen)
        return _prepare_listed(records, found)
    if source.windows is None:
        records = open_records(folder)
    else:
        records = _open_windows(source.windows, folder)
    check_given(spec, folder)
    manifest = records.manifest
    return _prepare_listed(
        records, lists.choose(manifest.subject, manifest.site, set(records.neuron_ids()))
    )


class Lists:
    """The explanations of the imported files, and those of them that are scored."""

    def __init__(self, source: RescoreSource, spec: RunSpec, listen: Listener) -> None:
        """UsageError for a file that is damaged, and when there is no explanation at all."""
        self.left_out: Counter[str] = Counter()
        self._listed = read_lists(source.imported, self.left_out)
        self._source = source
        self._spec = spec
        self._listen = listen

    def place(self) -> PublishedPlace:
        """The published dataset that they are of, unless another one is named."""
        models = {one.model for one in self._listed if one.model is not None}
        is_small = bool(models) and all(is_same_subject(name, "gpt2-small") for name in models)
        return self._source.place("gpt2-small" if is_small else DEFAULT_DATASET)

    def choose(self, subject: str, site: str, units: Collection[NeuronId] | None) -> ListedUnits:
        """Of these records; units: None: whichever they are of."""
        found = choose_listed(
            self._listed, subject, site, units, self.left_out,
            lambda text: self._listen(Noted("assumed", text)),
        )  # fmt: skip
        spec = self._spec
        chosen = choose_neurons(spec.neurons_wanted, sorted(found.by_unit), spec.seed)
        if len(chosen) < len(found.by_unit):
            n_listed = f"{len(found.by_unit):,} listed neurons"
            self._listen(Noted("neurons", f"{len(chosen):,} of {n_listed}; --neurons all for all"))
        return found.of_units(chosen)


def _prepare_listed(records: RecordSource, found: ListedUnits) -> Prepared:
    def prepare(results: Results) -> Rescoring:
        found.use(results)
        return Rescoring(records, found.keep(), list(found.by_unit), found, found.left_out)

    return prepare


def _open_windows(windows: str, folder: RunFolder) -> RecordSource:
    """The collection of another run; the folder is one over it from now on."""
    other = RunFolder(Path(windows))
    if other.path.resolve() != folder.path.resolve():
        folder.claim(run_choices(other))
    return open_records(folder)


def check_given(spec: RunSpec, folder: RunFolder) -> None:
    """SpecMismatch where flags name another collection than the one behind the folder.

    A choice that is RunSpec's own is taken for one that was not given.
    """
    known, defaults = read_subject_choices(folder), RunSpec()
    given = {
        name: value
        for name, value in spec.choices(COLLECT).items()
        if name in known and name not in ("seed", "units") and value != getattr(defaults, name)
    }
    if "layers" in given:
        given["layers"] = parse_layers(spec.layers, MOST_LAYERS)
    if "corpus" in known and spec.corpus != defaults.corpus:
        given["corpus"] = open_corpus(spec.corpus, text_field=spec.text_field).content_hash()
    if is_same_subject(spec.model, str(known.get("model"))):
        given.pop("model", None)
    difference = describe_differences(known, given)
    if difference:
        raise SpecMismatch(
            f"{folder.path} holds windows of another collection ({difference}); leave these flags "
            "out, or use --run with another folder"
        )


def check_subject(dataset: str, records: RecordSource) -> None:
    """UsageError where the windows are not those of the model that was published."""
    subject = records.manifest.subject
    if not is_same_subject(dataset, subject):
        raise UsageError(
            f"--windows: that run is over {subject}, the published explanations are of {dataset}; "
            "see --dataset"
        )


def _count_windows(
    records: PublishedSource, neuron_ids: list[NeuronId], left_out: Counter[str]
) -> list[NeuronId]:
    """The units whose records can be read or say why not, as their results will; what is left out
    beside is counted."""
    found = []
    for neuron_id in neuron_ids:
        try:
            left_out.update(records.read(neuron_id).left_out)
        except CannotExplain:
            pass
        except UnitNotFound:
            raise
        except StoreError:
            left_out["damaged in the archive"] += 1
            continue
        found.append(neuron_id)
    return found
