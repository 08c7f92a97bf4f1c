"""Training losses."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure


def losses(table: pd.DataFrame) -> Figure:
    """Training loss per seed, smoothed over 25 steps."""
    figure, axis = plt.subplots(figsize=(5, 2.2))
    for seed, rows in table.groupby("seed"):
        smooth = rows["loss"].rolling(25, min_periods=1).mean()
        axis.plot(rows["step"], smooth, lw=1, label=f"seed {seed}")
    axis.set(xlabel="step", ylabel="loss, mean of 25 steps")
    axis.legend()
    figure.tight_layout()
    return figure
