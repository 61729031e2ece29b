"""Scores a run's explanations anew, and new ones beside them, as a batch job.

python jobs/rescore.py --run R --simulator openai:M
python jobs/rescore.py --run R --simulator openai:M --explainer openai:N --json
"""

from __future__ import annotations

import typer

from neuron_explainer.cli import rescore
from neuron_explainer.cli_options import run_program

if __name__ == "__main__":
    run_program(lambda: typer.run(rescore))
