"""Windows of the published dataset (Bills et al. 2023), for tests with the mark `shared_data`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from neuron_explainer.records.neuron import ActivationRecord


class PublishedRecords(NamedTuple):
    """GPT-2 XL 9:6236: the first random windows, and two splits of five windows a kind."""

    random: list[ActivationRecord]
    train: list[ActivationRecord]
    valid: list[ActivationRecord]


def read_published_records(shared_data: Path) -> PublishedRecords:
    path = shared_data / "published" / "gpt2xl_9_6236_records.json"
    raw = json.loads(path.read_text("utf-8"))
    return PublishedRecords(
        *(
            [ActivationRecord(tuple(r["tokens"]), tuple(r["activations"])) for r in raw[key]]
            for key in ("random_sample_first3", "train_split_n5", "valid_split_n5")
        )
    )
