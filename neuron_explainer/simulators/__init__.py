"""From a claim about a unit to predicted activations."""
