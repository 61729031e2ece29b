"""A cascade over a run's neurons under one budget, as a batch job.

python jobs/cascade.py --run R --stages openai:A,openai:B --simulator openai:S --budget-usd 5
"""

from __future__ import annotations

import typer

from neuron_explainer.cli_cascade import cascade
from neuron_explainer.cli_options import run_program

if __name__ == "__main__":
    run_program(lambda: typer.run(cascade))
