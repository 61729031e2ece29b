"""Windows of five published GPT-2 XL neurons, for tests with the mark `shared_data`."""

from __future__ import annotations

import json
from pathlib import Path

from neuron_explainer.records.neuron import ActivationRecord


def read_explained_windows(shared_data: Path) -> list[list[ActivationRecord]]:
    """Of each neuron the four windows of its train split that are at hand."""
    path = shared_data / "published" / "gpt2xl_simulated_5.json"
    return [
        [
            ActivationRecord(
                tuple(step["token"] for step in sequence["actual"]),
                tuple(step["strength"] for step in sequence["actual"]),
            )
            for sequence in neuron["explain_sequences"]
        ]
        for neuron in json.loads(path.read_text("utf-8"))
    ]
