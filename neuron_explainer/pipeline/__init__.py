"""The stages, wired together."""
