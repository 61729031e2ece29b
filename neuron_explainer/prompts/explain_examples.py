"""The worked examples of explainer prompts: few-shot sets, read as evidence and explanation.

Sets that a simulator is shown too (`few_shot.py`) hold windows alone; the sets `explain_*` hold
whatever else one kind of prompt needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from neuron_explainer.errors import UsageError
from neuron_explainer.prompts.activations import ShownWindow
from neuron_explainer.prompts.explain import Evidence, Example, ExplainerPrompt
from neuron_explainer.prompts.few_shot import FOLDER


def read_examples(prompt: ExplainerPrompt, name: str | None = None) -> tuple[Example, ...]:
    """The examples of the set `name`, or of the prompt's own set.

    UsageError when there is no such set, or when it lacks what the prompt shows.
    """
    name = name or prompt.examples
    examples = _read_set(name)
    for example in examples:
        for need in prompt.needs:
            if not getattr(example.evidence, need):
                raise UsageError(
                    f"few-shot set {name!r} has no {need.value} and the prompt {prompt.name!r} "
                    f"shows them; its own set is {prompt.examples!r}"
                )
    return examples


@cache
def _read_set(name: str) -> tuple[Example, ...]:
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.json")))
        raise UsageError(f"no few-shot set {name!r}; one of {known}")
    raw = json.loads(path.read_text("utf-8"))
    if "neurons" not in raw:
        raise UsageError(f"few-shot set {name!r} is not one of neurons to explain")
    return tuple(
        Example(
            Evidence(
                windows=tuple(map(_window, neuron.get("records", ()))),
                quiet=tuple(map(_window, neuron.get("quiet", ()))),
                tokens=tuple(neuron.get("tokens", ())),
                promoted=tuple(neuron.get("promoted", ())),
                suppressed=tuple(neuron.get("suppressed", ())),
            ),
            neuron["explanation"],
        )
        for neuron in raw["neurons"]
    )


def _window(raw: Mapping[str, Any]) -> ShownWindow:
    tokens, activations = zip(*raw["tokens"], strict=True)
    return ShownWindow(tokens, activations)
