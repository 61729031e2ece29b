"""Evidence of made-up units, small enough to be read in a golden file."""

from __future__ import annotations

from neuron_explainer.prompts.activations import ShownWindow
from neuron_explainer.prompts.explain import Evidence, Example

EXAMPLE = Example(
    Evidence(
        windows=(
            ShownWindow(("I", " ate", " two", " pears", "."), (0, 1, 10, 5, 0)),
            ShownWindow(("Twelve", " men"), (7, 0)),
        ),
        quiet=(ShownWindow((" two", "fold"), (0, 0)),),
        tokens=(" two", " seven", "twelve"),
        promoted=(" dozen", " times"),
        suppressed=(" the",),
    ),
    "words for numbers",
)
EVIDENCE = Evidence(
    windows=(
        ShownWindow(
            ("He", " came", " on", " Friday", ",", "\n", "not", " on", " a", " Monday"),
            (None, 0, 0, 10, 0, 0, 0, 0, 0, 8),
        ),
        ShownWindow((" on", " Sunday", "s", " it", " rains"), (0, 4, 0, 0, 0)),
    ),
    quiet=(ShownWindow(("Man", " Friday", "'s", " island"), (0, 1, 0, 0)),),
    tokens=(" Friday", " Monday", "Sunday"),
    promoted=(" morning", " evening"),
    suppressed=("ly", " of"),
)
