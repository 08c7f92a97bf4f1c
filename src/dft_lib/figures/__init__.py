"""Figures: plots of tables and summaries, and sheets of pictures; nothing is measured here."""

from dft_lib.figures.gaps import corrected, dose, fair_model, gaps
from dft_lib.figures.losses import losses
from dft_lib.figures.pareto import pareto
from dft_lib.figures.shares import profession_shares, representation, tone_distributions
from dft_lib.figures.sheets import first_images, first_rejected, sheet
from dft_lib.figures.style import save, use_style

__all__ = [
    "corrected", "dose", "fair_model", "first_images", "first_rejected", "gaps", "losses",
    "pareto", "profession_shares", "representation", "save", "sheet", "tone_distributions",
    "use_style",
]  # fmt: skip
