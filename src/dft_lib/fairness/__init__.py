"""Fairness metrics on counts: NumPy and SciPy only, no picture is opened here."""
