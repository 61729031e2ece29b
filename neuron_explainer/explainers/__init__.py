"""From a unit's records to a claim about it."""
