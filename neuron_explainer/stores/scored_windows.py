"""Scored windows as they are kept in sqlite: zlib'ed JSON."""

from __future__ import annotations

import json
import zlib
from typing import Any

import orjson

from neuron_explainer.records.scale import ActivationScale
from neuron_explainer.records.score import Score, ScoredWindow
from neuron_explainer.records.simulation import SequenceSimulation


def pack_windows(windows: tuple[ScoredWindow, ...]) -> bytes:
    """ValueError for a value that is not finite: no NaN gets into a file."""
    plain = [
        {
            "subset": window.subset,
            "tokens": window.simulation.tokens,
            "expected": window.simulation.expected_activations,
            "scale": window.simulation.scale,
            "true": window.true_activations,
            "score": _score_fields(window.score),
        }
        for window in windows
    ]
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return zlib.compress(text.encode("utf-8", "surrogatepass"))


def unpack_windows(blob: bytes) -> tuple[ScoredWindow, ...]:
    """What `pack_windows` made."""
    return tuple(
        ScoredWindow(
            subset=window["subset"],
            simulation=SequenceSimulation(
                tuple(window["tokens"]), tuple(window["expected"]), ActivationScale(window["scale"])
            ),
            true_activations=tuple(window["true"]),
            score=Score(*window["score"]),
        )
        for window in _parse(zlib.decompress(blob))
    )


def _parse(text: bytes) -> list[dict[str, Any]]:
    plain: list[dict[str, Any]]
    try:
        plain = orjson.loads(text)  # four times as quick as json
    except orjson.JSONDecodeError:  # as for half of a surrogate pair in a token
        plain = json.loads(text.decode("utf-8", "surrogatepass"))
    return plain


def _score_fields(score: Score) -> list[Any]:
    return [score.metric, score.value, score.n_tokens, score.low, score.high, score.reason]
