"""What a collection holds and how it was made: `store.json`, written last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from neuron_explainer.errors import StoreError
from neuron_explainer.records.units import Units
from neuron_explainer.stores import atomic
from neuron_explainer.stores.record_source import Facts

FORMAT_VERSION = 2
MANIFEST = "store.json"
_KINDS: Mapping[str, Any] = {"str": str, "int": int, "float": int | float}


@dataclass(frozen=True, slots=True)
class StoreManifest:
    """What a store holds and how it was made."""

    fingerprint: str
    """Of the choices that made it; the same fingerprint, the same store."""
    subject: str
    site: str
    layers: tuple[int, ...]
    n_units: int
    """Units that a layer of the subject has."""
    n_ctx: int
    """Longest window, in tokens."""
    corpus: str
    corpus_hash: str
    n_documents: int
    n_duplicates: int
    """Exact duplicate documents that were left out."""
    n_near_duplicates: int
    """Windows left out because most of their text had come before."""
    n_windows: int
    n_tokens: int
    n_record_tokens: int
    """Tokens of the record documents; the others are fit text."""
    coverage: float
    """Share of the fit text's tokens that have a token mean of their own."""
    chosen_units: tuple[tuple[int, ...], ...] | None = None
    """Numbers of those that were collected of each of `layers`, ascending; None: every unit."""
    format_version: int = FORMAT_VERSION

    @property
    def units(self) -> Units:
        """Those that were collected."""
        return Units(self.layers, self.n_units, self.chosen_units)

    def size(self) -> str:
        """`4 layers of 3,072 neurons each`, or `50 chosen neurons of 3 layers`"""
        return self.units.sentence()

    def facts(self) -> Facts:
        """What a page tells of it."""
        return (
            (
                "Text",
                f"{self.corpus}: {self.n_tokens:,} tokens in {self.n_windows:,} windows of at most "
                f"{self.n_ctx}, {self.n_documents:,} documents ({self.n_duplicates:,} duplicates "
                f"and {self.n_near_duplicates:,} near-duplicate windows left out)",
            ),
            (
                "Fit / record",
                f"{self.n_tokens - self.n_record_tokens:,} tokens to fit on, "
                f"{self.n_record_tokens:,} to explain and score on; no document is in both",
            ),
            ("Token means", f"cover {self.coverage:.1%} of the fit text"),
        )


def holds_store(folder: Path) -> bool:
    """Whether a collection in this folder was finished."""
    return (folder / MANIFEST).exists()


def read_manifest(folder: Path) -> StoreManifest:
    """StoreError when the folder holds no finished store."""
    path = folder / MANIFEST
    try:
        manifest = manifest_from(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"no collection in {folder.parent}; run `collect` first") from error
    except (ValueError, TypeError, KeyError) as error:
        raise damaged(path) from error
    return manifest


def write_manifest(folder: Path, manifest: StoreManifest) -> None:
    text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False)
    atomic.write_text(folder / MANIFEST, text + "\n")


def manifest_from(raw: Mapping[str, Any]) -> StoreManifest:
    """What `asdict` gave, after JSON; TypeError or KeyError when it is something else."""
    if raw["format_version"] != FORMAT_VERSION:
        raise StoreError(
            f"the store has format {raw['format_version']}, this program reads {FORMAT_VERSION}; "
            "run `collect --fresh`"
        )
    for field in fields(StoreManifest):
        kind = _KINDS.get(str(field.type))
        if kind is not None and not isinstance(raw[field.name], kind):
            raise TypeError(field.name)
    layers, chosen = _numbers(raw["layers"]), raw.get("chosen_units")
    if chosen is not None:
        chosen = tuple(map(_numbers, chosen))
        if len(chosen) != len(layers) or not all(chosen):
            raise ValueError("chosen_units")
    return StoreManifest(**{**raw, "layers": layers, "chosen_units": chosen})


def _numbers(raw: Any) -> tuple[int, ...]:
    """Of a JSON list, which must be ascending."""
    if not isinstance(raw, list) or not all(isinstance(number, int) for number in raw):
        raise TypeError(raw)
    if any(one >= next_one for one, next_one in pairwise(raw)):
        raise ValueError(raw)
    return tuple(raw)


def damaged(path: Path) -> StoreError:
    """What to say of a file of a store that cannot be read."""
    return StoreError(f"{path} is missing or damaged; run `collect --fresh` with the same choices")
