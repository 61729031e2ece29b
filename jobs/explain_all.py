"""Explain every neuron of a model as one batch job, resumable: flags -> RunSpec -> one call.

python jobs/explain_all.py --model gpt2 --tokens 2000000 --run runs/gpt2
"""

from __future__ import annotations

from dataclasses import replace

import typer

from neuron_explainer.cli_options import DRY_RUN, console, run_program, takes_spec
from neuron_explainer.cli_progress import ProgressDisplay
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run import estimate_run, run
from neuron_explainer.pipeline.spec import ALL_NEURONS, RunSpec


@takes_spec(more=DRY_RUN)
def explain_all(spec: RunSpec, folder: RunFolder, *, dry_run: bool) -> None:
    """Collect, explain, simulate, score and report every neuron of a model."""
    spec = replace(spec, neurons=spec.neurons or ALL_NEURONS)
    if dry_run:
        line = estimate_run(spec, folder).sentence()
        console.print(line, markup=False, highlight=False, soft_wrap=True)
        return
    with ProgressDisplay(console) as display:
        run(spec, folder, display)


if __name__ == "__main__":
    run_program(lambda: typer.run(explain_all))
