"""Scores explanations anew, and new ones beside them, as a batch job.

    --run R --simulator openai:M                            those of a run's current method
    --run R --simulator openai:M --method summary           those of another of its methods
    --run R --simulator openai:M --explainer openai:N       and new ones by another explainer
    --published --neurons 50 --simulator openai:M           published ones, on published windows
    --published --windows R --dataset gpt2-small …          the same on the windows of a run
    --imported list.csv --windows R --simulator openai:M    those of a list, on a run's windows
    --imported list.csv --windows published …               on the published ones
    --imported list.csv --model gpt2 --tokens 200000 …      on windows that are collected first

Each with --run for the results, and with --json for a program. The same command goes on after a
stop, and asks nothing again.
"""

from __future__ import annotations

import typer

from neuron_explainer.cli_options import run_program
from neuron_explainer.cli_rescore import rescore

if __name__ == "__main__":
    run_program(lambda: typer.run(rescore))
