"""The prompt of simulators that were trained to be one: a description and the text, nothing more.

The form of Transluce's distilled simulators (Choi et al. 2024, `Transluce/llama_8b_simulator`).
"""

from __future__ import annotations

PROMPT_VERSION = "distilled/1"


def description_piece(explanation: str) -> str:
    """What precedes the tokens of the window, as the simulator was trained on it."""
    return f"## Neuron Description: {explanation.strip()}\n\n ## Input: "
