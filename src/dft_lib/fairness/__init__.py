"""Fairness metrics on counts: NumPy only, nothing here knows of images."""
