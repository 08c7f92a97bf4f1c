"""The emoji world: a small world of drawings in which the truth about bias is known."""
