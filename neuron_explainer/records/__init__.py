"""The vocabulary: what a unit, a window, an explanation, a simulation and a score are."""
