"""Collect what every neuron of a model responds to, as a batch job: flags -> RunSpec -> one call.

python jobs/collect.py --model gpt2 --corpus web.jsonl --tokens 10000000 --run runs/gpt2
"""

from __future__ import annotations

import typer

from neuron_explainer.cli_options import COLLECT_FIELDS, console, run_program, takes_spec
from neuron_explainer.cli_progress import ProgressDisplay
from neuron_explainer.pipeline.folder import RunFolder
from neuron_explainer.pipeline.run import run_collect
from neuron_explainer.pipeline.spec import RunSpec


@takes_spec(*COLLECT_FIELDS)
def collect(spec: RunSpec, folder: RunFolder) -> None:
    """Read the text and record what every neuron responds to; `explain` goes on from there."""
    with ProgressDisplay(console) as display:
        run_collect(spec, folder, display)


if __name__ == "__main__":
    run_program(lambda: typer.run(collect))
