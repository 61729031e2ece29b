"""Explanations of lists from anywhere, to be scored anew: read, checked, and put into results.

1. The files are read as `import` reads them, into a library that is gone afterwards.
2. What is of another model or site, of negative activations, or of a unit that the records lack is
   left out and counted.
3. A unit's explanations are all kept; the best on the calibration split is scored.
4. What the list itself says of that one becomes a method of the results, "as listed".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.import_files import import_files
from neuron_explainer.pipeline.kept import Kept
from neuron_explainer.pipeline.spec import fingerprint
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.listed import ListedExplanation, Polarity, plain_claim
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import TOP_AND_RANDOM, Score, ScoredSimulation
from neuron_explainer.records.subject_names import is_same_site, is_same_subject
from neuron_explainer.scoring.metrics import Metric
from neuron_explainer.stores.library import Library
from neuron_explainer.stores.results import Results

AS_LISTED = "as listed"
LISTED = "listed"
"""Scorer of a score that a list gives; its simulator is what the list names."""
LISTED_SCORE = "listed_score"
"""Name of a score of which the list does not say the kind."""
NOT_SAID = "not said"
NEGATIVE = "explanation of negative activations"
NOT_THERE = "explanation of a neuron that the records have not"
REPEATED = "explanation that says what another one says"
CORRELATIONS = (None, TOP_AND_RANDOM, Metric.EV_CORRELATION.value)
"""Kinds of score that are compared with ours; one that is not said is taken for one of them."""


@dataclass(frozen=True, slots=True)
class ListedUnits:
    """Explanations that can be scored, by unit, and what was left out."""

    by_unit: dict[NeuronId, list[ListedExplanation]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def of_units(self, neuron_ids: Iterable[NeuronId]) -> ListedUnits:
        """These units alone."""
        return ListedUnits({i: self.by_unit[i] for i in neuron_ids}, self.left_out)

    def keep(self) -> Kept:
        explanations = {
            neuron_id: tuple(map(_explanation, listed))
            for neuron_id, listed in self.by_unit.items()
        }
        return Kept(fingerprint(self._choices()), self._label(), explanations)

    def use(self, results: Results) -> None:
        """Makes what the lists say the current method of the results."""
        results.use_method(fingerprint(self._choices()), self._choices())

    def write_scores(self, results: Results, kept: str) -> None:
        """What the lists say of each unit's explanation, as the kept method has chosen it."""
        origin = fingerprint(self._choices())
        finished = results.finished(origin)
        for unit in list(results.units(kept)):
            if unit.neuron_id in finished or unit.neuron_id not in self.by_unit:
                continue
            chosen = next(
                (one for one in self.by_unit[unit.neuron_id] if one.text.strip() == unit.text), None
            )
            if chosen is not None:
                results.add_explained(origin, _explanation(chosen), _scored(chosen))

    def _choices(self) -> dict[str, object]:
        everything = [one for listed in self.by_unit.values() for one in listed]
        said = sorted((one.digest().hex(), repr(one.scores)) for one in everything)
        content = blake2b(repr(said).encode(), digest_size=16).hexdigest()
        sources = sorted({one.source for one in everything})
        return {"explainer": LISTED, "simulator": LISTED, "lists": sources, "content": content}

    def _label(self) -> str:
        scores = [one.score for listed in self.by_unit.values() for one in listed]
        kinds = sorted({score.kind or "kind not said" for score in scores if score is not None})
        return f"{AS_LISTED} ({', '.join(kinds)})" if kinds else AS_LISTED


def read_lists(paths: Sequence[Path], left_out: Counter[str]) -> list[ListedExplanation]:
    """In the order of the files; UsageError for one that is damaged, and for nothing at all."""
    with TemporaryDirectory() as folder, Library(Path(folder) / "lists.sqlite") as library:
        for imported in import_files(paths, library):
            if imported.refused is not None:
                raise UsageError(f"--imported: {imported.refused}")
            left_out.update(imported.left_out)
        listed = list(library.all())
    if not listed:
        names = ", ".join(map(str, paths))
        why = "; ".join(f"{reason} {n:,}" for reason, n in left_out.most_common())
        raise UsageError(f"--imported: no explanation in {names}" + (f" ({why})" if why else ""))
    return listed


def choose_listed(
    listed: Sequence[ListedExplanation],
    subject: str,
    site: str,
    neuron_ids: Collection[NeuronId] | None,
    left_out: Counter[str],
    note: Callable[[str], None],
) -> ListedUnits:
    """Those that are of these records; UsageError when the lists are of another model or site.

    neuron_ids: the units that there are; None: whichever the lists are of. note: told
    what is assumed.
    """
    of_model = _of(listed, "model", subject, is_same_subject, left_out, note)
    of_site = _of(of_model, "site", site, is_same_site, left_out, note)
    found = ListedUnits(left_out=left_out)
    for one in of_site:
        if one.polarity is Polarity.NEGATIVE:
            left_out[NEGATIVE] += 1
        elif neuron_ids is not None and one.neuron_id not in neuron_ids:
            left_out[NOT_THERE] += 1
        elif _is_said(one, found.by_unit.get(one.neuron_id, ())):
            left_out[REPEATED] += 1
        else:
            found.by_unit.setdefault(one.neuron_id, []).append(one)
    if not found.by_unit:
        why = ", ".join(f"{reason} {n:,}" for reason, n in left_out.most_common())
        raise UsageError(f"--imported: no explanation is left to score: {why}")
    return found


def _of(
    listed: Sequence[ListedExplanation],
    what: str,
    wanted: str,
    is_same: Callable[[str, str], bool],
    left_out: Counter[str],
    note: Callable[[str], None],
) -> list[ListedExplanation]:
    """Those of one model or site, and those that do not say theirs."""
    kept, others, n_unsaid = [], Counter[str](), 0
    for one in listed:
        said: str | None = getattr(one, what)
        n_unsaid += said is None
        if said is None or is_same(said, wanted):
            kept.append(one)
        else:
            others[said] += 1
    if not kept:
        raise UsageError(
            f"--imported: the explanations are of the {what} {', '.join(sorted(others))}, the "
            f"records of {wanted}; give the windows of a run over that {what} with --windows"
        )
    left_out.update({f"explanation of another {what} ({said})": n for said, n in others.items()})
    if n_unsaid:
        note(f"{n_unsaid:,} explanations do not say their {what}: taken for {wanted}")
    return kept


def _is_said(one: ListedExplanation, others: Iterable[ListedExplanation]) -> bool:
    return any(plain_claim(one.text) == plain_claim(other.text) for other in others)


def _explanation(one: ListedExplanation) -> Explanation:
    text, made_by = one.text.strip(), one.explainer or one.source
    return Explanation(one.neuron_id, text, made_by, one.explainer_model)


def _scored(one: ListedExplanation) -> ScoredSimulation:
    """The list's first score; over how many tokens it is, no list says."""
    correlation = Metric.EV_CORRELATION.value
    if one.score is None:
        name, by = LISTED_SCORE, None
        score = Score(correlation, None, None, reason="no score in the list")
    else:
        name, by = one.score.kind or LISTED_SCORE, one.score.scorer
        metric = correlation if one.score.kind in CORRELATIONS else name
        score = Score(metric, one.score.value, None)
    return ScoredSimulation(LISTED, by or NOT_SAID, {name: score}, (), name)
