"""One pass over a corpus that records what every unit responds to."""
