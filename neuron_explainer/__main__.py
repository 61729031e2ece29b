"""`python -m neuron_explainer`: the command line."""

from neuron_explainer.cli import main

main()
