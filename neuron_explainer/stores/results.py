"""Explanations and their scores in sqlite: appended, never overwritten; one writer.

The tables are those of `results_schema.py`. One unit's rows are one transaction: after a kill a
unit is there with all its scores, or not at all. Only what is not final, such as a failure that may
pass, is not kept for ever: what comes of the unit later takes its place.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from neuron_explainer.errors import StoreError
from neuron_explainer.records.cost import UnitCost
from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronId
from neuron_explainer.records.score import (
    Candidate,
    Score,
    ScoredSimulation,
    ScoredWindow,
    reason_kind,
)
from neuron_explainer.records.tally import Tally
from neuron_explainer.records.unit_result import UnitResult
from neuron_explainer.stores.results_file import ResultsFile, store_error
from neuron_explainer.stores.results_schema import METHODS_WITH_RESULTS
from neuron_explainer.stores.scored_windows import pack_windows, unpack_windows

BASELINE = "baseline"
"""Among a method's choices: the fingerprint of the method it is read beside."""
BASELINE_LABEL = "baseline_label"
"""Among a method's choices: what people call that method."""
LOOKUP_LABEL = "token lookup table"
"""What it is called when it is not said."""
OF_AN_EXPLANATION = ("costs", "scores", "scored_windows", "candidates")
"""Tables whose rows belong to an explanation."""
UNFINISHED = "fingerprint = ? AND layer_index = ? AND neuron_index = ? AND NOT is_final"


class MethodUse(NamedTuple):
    """A way to explain and score that a run has used."""

    fingerprint: str
    choices: Mapping[str, Any] | None
    """None: it made what others are read beside, and its choices were not kept."""
    used_at: str | None
    """Time of its last use, ISO 8601, UTC; None: not kept."""


class Results(ResultsFile):
    """One run folder's results, by the method that made them."""

    def use_method(self, fingerprint: str, choices: Mapping[str, Any]) -> None:
        """Makes a method the current one: what readers show when they are not told which."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO methods (fingerprint, choices, used_at) VALUES (?, ?, ?)",
                (fingerprint, json.dumps(choices, sort_keys=True), _now()),
            )

    def add_explained(
        self,
        fingerprint: str,
        explanation: Explanation,
        scored: ScoredSimulation,
        *,
        candidates: Sequence[Candidate] = (),
        cost: UnitCost | None = None,
        is_final: bool = True,
        packed_windows: bytes | None = None,
    ) -> None:
        """One unit's explanation with everything that was scored of it, in one transaction.

        Not final: what comes of the unit later takes its place, as in a cascade. packed_windows:
        what `pack_windows` made of the windows, in their place.
        """
        windows = pack_windows(scored.windows) if packed_windows is None else packed_windows
        with self._transaction():
            explanation_id = self._add_explanation(
                fingerprint,
                explanation.neuron_id,
                (explanation.explainer, explanation.model, explanation.prompt_version),
                text=explanation.text,
                is_final=is_final,
            )
            key = (explanation_id, scored.scorer, scored.simulator)
            self._connection.executemany(
                "INSERT INTO scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (*key, name, s.metric, name == scored.headline,
                     s.value, s.n_tokens, s.low, s.high, s.reason)
                    for name, s in scored.scores.items()
                ],
            )  # fmt: skip
            self._connection.execute(
                "INSERT INTO scored_windows VALUES (?, ?, ?, ?)", (*key, windows)
            )
            self._connection.executemany(
                "INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (explanation_id, number, c.explanation.text, c.score.metric, c.score.value,
                     c.score.n_tokens, c.score.reason)
                    for number, c in enumerate(candidates)
                ],
            )  # fmt: skip
            self._add_cost(explanation_id, cost)

    def add_unexplained(
        self,
        fingerprint: str,
        neuron_id: NeuronId,
        explainer: str,
        reason: str,
        *,
        is_final: bool = True,
        cost: UnitCost | None = None,
    ) -> None:
        """A unit that has no explanation, and why; not final: it is tried again another time."""
        with self._transaction():
            explanation_id = self._add_explanation(
                fingerprint, neuron_id, (explainer, None, None), reason=reason, is_final=is_final
            )
            self._add_cost(explanation_id, cost)

    def finished(self, fingerprint: str) -> set[NeuronId]:
        """The units that this fingerprint has results for that will stay."""
        query = (
            "SELECT layer_index, neuron_index FROM explanations WHERE fingerprint = ? AND is_final"
        )
        with self._reading():
            return {NeuronId(*row) for row in self._connection.execute(query, (fingerprint,))}

    def has_method(self) -> bool:
        """Whether any was used yet."""
        return self._newest_use() is not None

    def current_method(self) -> str:
        """Fingerprint of the method used last; StoreError when there is none."""
        row = self._newest_use()
        if row is None:
            raise StoreError("no neuron is explained yet; run `explain` first")
        return str(row[0])

    def _newest_use(self) -> tuple[str] | None:
        query = "SELECT fingerprint FROM methods ORDER BY id DESC LIMIT 1"
        with self._reading():
            row: tuple[str] | None = self._connection.execute(query).fetchone()
        return row

    def method_uses(self) -> tuple[MethodUse, ...]:
        """Every method that has results or was used, by its last use, if that was kept."""
        query = (
            "SELECT fingerprint, max(used_at) FROM (SELECT fingerprint, used_at FROM methods "
            f"UNION ALL SELECT fingerprint, NULL FROM ({METHODS_WITH_RESULTS})) "
            "GROUP BY fingerprint ORDER BY max(used_at) IS NULL, max(used_at), fingerprint"
        )
        with self._reading():
            rows = self._connection.execute(query).fetchall()
        return tuple(
            MethodUse(fingerprint, None if used_at is None else self.choices(fingerprint), used_at)
            for fingerprint, used_at in rows
        )

    def score_names(self) -> tuple[str, ...]:
        """Of every score of any method, in alphabetical order."""
        with self._reading():
            rows = self._connection.execute("SELECT DISTINCT name FROM scores ORDER BY name")
            return tuple(name for (name,) in rows)

    def neuron_ids(self) -> list[NeuronId]:
        """Every unit of which any method says something, by layer and unit."""
        query = (
            "SELECT DISTINCT layer_index, neuron_index FROM explanations "
            "ORDER BY layer_index, neuron_index"
        )
        with self._reading():
            return [NeuronId(*row) for row in self._connection.execute(query)]

    def units(
        self, fingerprint: str, neuron_id: NeuronId | None = None
    ) -> Generator[UnitResult, None, None]:
        """Every unit's result, by layer and unit; or that of one unit."""
        condition = "fingerprint = ?"
        arguments: list[str | int] = [fingerprint]
        if neuron_id is not None:
            condition += " AND layer_index = ? AND neuron_index = ?"
            arguments += [neuron_id.layer_index, neuron_id.neuron_index]
        query = (
            "SELECT id, layer_index, neuron_index, explainer, text, reason, model, prompt_version, "
            "n_requests, n_prompt_tokens, n_cached_tokens, n_completion_tokens, cost_picousd "
            "FROM explanations LEFT JOIN costs ON explanation_id = id "
            f"WHERE {condition} ORDER BY layer_index, neuron_index, id"
        )
        with self._reading(), closing(self._connection.execute(query, arguments)) as rows:
            for explanation_id, layer, unit, explainer, text, reason, *made_by in rows:
                model, prompt_version, *cost = made_by
                scores, headline, simulator, scorer = self._scores(explanation_id)
                yield UnitResult(
                    NeuronId(layer, unit), explainer, text, reason, scores, headline, simulator,
                    model, prompt_version, None if cost[0] is None else UnitCost(*cost), scorer,
                )  # fmt: skip

    def tally(self, fingerprint: str) -> Tally:
        """What came of all units of a method, counted without reading them one by one."""
        outcomes = (
            "SELECT CASE WHEN value IS NULL THEN coalesce(scores.reason, explanations.reason) END, "
            "count(*), count(value), sum(value) FROM explanations "
            "LEFT JOIN scores ON explanation_id = id AND is_headline "
            "WHERE fingerprint = ? GROUP BY 1 ORDER BY min(layer_index), min(neuron_index)"
        )
        n_units, n_scored, total, unscored = 0, 0, 0.0, Counter[str]()
        with self._reading():
            rows = self._connection.execute(outcomes, (fingerprint,))
            for reason, n_of_reason, n_with_value, of_values in rows:
                n_units += n_of_reason
                n_scored += n_with_value
                total += of_values or 0.0
                if reason is not None:
                    unscored[reason_kind(reason)] += n_of_reason
            cost = self._total_cost(fingerprint)
        mean = total / n_scored if n_scored else None
        return Tally(n_units, n_scored, mean, dict(unscored.most_common()), cost)

    def _total_cost(self, fingerprint: str) -> UnitCost | None:
        """None where no language model was asked."""
        query = (
            "SELECT sum(n_requests), sum(n_prompt_tokens), sum(n_cached_tokens), "
            "sum(n_completion_tokens), sum(cost_picousd), count(cost_picousd), count(*) "
            "FROM explanations JOIN costs ON explanation_id = id WHERE fingerprint = ?"
        )
        *sums, n_priced, n_asked = self._connection.execute(query, (fingerprint,)).fetchone()
        if not n_asked:
            return None
        cost = UnitCost(*sums)
        return cost if n_priced == n_asked else replace(cost, cost_picousd=None)

    def newest_units(self, fingerprint: str, n: int) -> list[UnitResult]:
        """The last n results of a method, the newest first."""
        query = (  # + keeps sqlite to the order of the rows: it ends after the first n
            "SELECT layer_index, neuron_index FROM explanations WHERE +fingerprint = ? "
            "ORDER BY id DESC LIMIT ?"
        )
        with self._reading():
            rows = self._connection.execute(query, (fingerprint, n)).fetchall()
        return [self.unit(fingerprint, NeuronId(*row)) for row in rows]

    def unit(self, fingerprint: str, neuron_id: NeuronId) -> UnitResult:
        """The result of a unit that has one; StoreError when the file has lost it."""
        unit = next(self.units(fingerprint, neuron_id), None)
        if unit is None:
            raise store_error(self._path, LookupError(f"neuron {neuron_id} is lost"))
        return unit

    def newest(self, neuron_id: NeuronId) -> tuple[UnitResult | None, tuple[ScoredWindow, ...]]:
        """A unit's result by the current method and what was simulated; None and () without."""
        row = self._newest_use()
        if row is None:
            return None, ()
        fingerprint = str(row[0])
        unit = next(self.units(fingerprint, neuron_id), None)
        return unit, self.windows(fingerprint, neuron_id)

    def candidates(self, fingerprint: str, neuron_id: NeuronId) -> tuple[tuple[str, Score], ...]:
        """Texts that the unit's explanation was chosen from, by their score on calibration text."""
        query = (
            "SELECT candidates.text, metric, value, n_tokens, candidates.reason FROM candidates "
            "JOIN explanations ON explanation_id = id "
            "WHERE fingerprint = ? AND layer_index = ? AND neuron_index = ? ORDER BY number"
        )
        of_unit = (fingerprint, neuron_id.layer_index, neuron_id.neuron_index)
        with self._reading():
            return tuple(
                (text, Score(metric, value, n_tokens, reason=reason))
                for text, metric, value, n_tokens, reason in self._connection.execute(
                    query, of_unit
                )
            )

    def choices(self, fingerprint: str) -> dict[str, Any]:
        """The choices of a method; StoreError when it was never used."""
        query = "SELECT choices FROM methods WHERE fingerprint = ? ORDER BY id DESC LIMIT 1"
        with self._reading():
            row = self._connection.execute(query, (fingerprint,)).fetchone()
            choices: dict[str, Any] | None = None if row is None else json.loads(row[0])
        if choices is None:
            raise StoreError(f"{self._path} holds no method {fingerprint}")
        return choices

    def windows(self, fingerprint: str, neuron_id: NeuronId) -> tuple[ScoredWindow, ...]:
        """What was simulated for a unit's explanation; empty when it has none."""
        query = (
            "SELECT windows FROM scored_windows JOIN explanations ON explanation_id = id "
            "WHERE fingerprint = ? AND layer_index = ? AND neuron_index = ? ORDER BY id DESC"
        )
        of_unit = (fingerprint, neuron_id.layer_index, neuron_id.neuron_index)
        with self._reading():
            row = self._connection.execute(query, of_unit).fetchone()
            return () if row is None else unpack_windows(row[0])

    def _add_explanation(
        self,
        fingerprint: str,
        neuron_id: NeuronId,
        made_by: tuple[str, str | None, str | None],
        *,
        text: str | None = None,
        reason: str | None = None,
        is_final: bool = True,
    ) -> int:
        of_unit = (fingerprint, neuron_id.layer_index, neuron_id.neuron_index)
        for table in OF_AN_EXPLANATION:
            self._connection.execute(
                f"DELETE FROM {table} WHERE explanation_id IN (SELECT id FROM explanations "
                f"WHERE {UNFINISHED})", of_unit,
            )  # fmt: skip
        self._connection.execute(f"DELETE FROM explanations WHERE {UNFINISHED}", of_unit)
        cursor = self._connection.execute(
            "INSERT INTO explanations (fingerprint, layer_index, neuron_index, explainer, model, "
            "prompt_version, text, reason, created_at, is_final) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*of_unit, *made_by, text, reason, _now(), is_final),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _add_cost(self, explanation_id: int, cost: UnitCost | None) -> None:
        if cost is not None:
            self._connection.execute(
                "INSERT INTO costs VALUES (?, ?, ?, ?, ?, ?)",
                (explanation_id, cost.n_requests, cost.n_prompt_tokens, cost.n_cached_tokens,
                 cost.n_completion_tokens, cost.cost_picousd),
            )  # fmt: skip

    def _scores(
        self, explanation_id: int
    ) -> tuple[dict[str, Score], str | None, str | None, str | None]:
        """Scores by name, the headline's name, its simulator and scorer."""
        rows = self._connection.execute(
            "SELECT name, is_headline, simulator, scorer, metric, value, n_tokens, low, high, "
            "reason FROM scores WHERE explanation_id = ? ORDER BY rowid",
            (explanation_id,),
        )
        scores, headline, simulator, scorer = {}, None, None, None
        for name, is_headline, of_simulator, of_scorer, metric, *columns in rows:
            scores[_shared(name)] = Score(_shared(metric), *columns)
            if is_headline:
                headline, simulator, scorer = (
                    _shared(name),
                    _shared(of_simulator),
                    _shared(of_scorer),
                )
        return scores, headline, simulator, scorer


def _shared(name: str) -> str:
    """One string for all that are equal: every unit's rows hold the same few names."""
    return sys.intern(name)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
