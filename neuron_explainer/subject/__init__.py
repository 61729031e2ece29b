"""The model being explained."""
