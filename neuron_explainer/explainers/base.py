"""What an explainer is."""

from __future__ import annotations

from typing import Protocol

from neuron_explainer.records.explanation import Explanation
from neuron_explainer.records.neuron import NeuronRecord


class Explainer(Protocol):
    """Reads what was recorded of a unit and says what the unit responds to.

    An explainer may look at the train split alone (`records/splits.py`): the other windows are
    what its explanation is selected and scored on.
    """

    name: str

    async def explain(self, record: NeuronRecord) -> tuple[Explanation, ...]:
        """At least one claim about the unit, each different.

        CannotExplain, with the reason, when there is none.
        """
        ...
