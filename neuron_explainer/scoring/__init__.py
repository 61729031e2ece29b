"""How well predicted activations agree with the real ones."""
