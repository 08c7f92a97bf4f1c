"""Files of strangers: how a CSV is written, and what its numbers are."""
