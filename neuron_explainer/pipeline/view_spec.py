"""With which choices an explanation that a person writes in the viewer is scored.

Nothing heavy is imported: the viewer asks as it starts, to say why no score can be had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from neuron_explainer.errors import UsageError
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.model_names import parse_model_name
from neuron_explainer.pipeline.records import read_subject_choices
from neuron_explainer.pipeline.spec import EMBEDDED, SAME_MODEL, RunSpec
from neuron_explainer.records.scale import CalibrationKind
from neuron_explainer.stores.results import Results

SCORING = ("n_per_split", "n_resamples", "max_missing_share")
SIMULATING = (
    "simulator", "simulation", "simulator_context", "simulator_tokenizer", "reasoning_effort",
    "model_dtype",
)  # fmt: skip


def spec_of_own(spec: RunSpec, folder: RunFolder) -> RunSpec:
    """The choices of the run's current method, as far as they matter here.

    spec: how models are reached, the budget; a `--simulator` in it takes the place of the run's.
    UsageError, whose message says why, where nothing predicts from words.
    """
    choices = _current_choices(folder)
    names = SCORING if spec.simulator != SAME_MODEL else (*SCORING, *SIMULATING)
    own = replace(
        spec,
        batch=False,
        seed=read_subject_choices(folder).get("seed", spec.seed),
        calibration=CalibrationKind(choices.get("calibration", spec.calibration)),
        **{name: choices[name] for name in names if name in choices},
    )
    if own.simulator in (*EMBEDDED, SAME_MODEL):
        raise UsageError(
            "no language model simulates in this run, and a rule cannot predict from words; name "
            "one: view --simulator openai:MODEL or hf:MODEL"
        )
    parse_model_name(own.simulator, "--simulator")
    return own


def _current_choices(folder: RunFolder) -> Mapping[str, Any]:
    if not folder.results.exists():
        return {}
    with Results(folder.results, read_only=True) as results:
        return results.choices(results.current_method()) if results.has_method() else {}
