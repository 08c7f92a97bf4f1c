"""Diversity fine-tuning and its variants: the ordinary denoising loss; what differs is the data.

Which pictures (balanced or not, drawn by the model or real, how many), under which captions, and
which weights learn, are settings of the arm.
"""

from __future__ import annotations

from dft_lib.study.training import Training
from dft_lib.training.job import Fitted, Job, learned, steps_cost

SHARES_BATCHES = True


class Settings(Training):
    """The common training settings."""


def fit(job: Job) -> Fitted:
    """Fine-tune on the set's pictures."""
    pipeline, chosen = job.fresh(), job.settings
    rows = job.rows(chosen)
    log = job.train(pipeline, chosen, rows)
    cost = steps_cost(job, chosen, rows, learned(pipeline))
    return Fitted(pipeline, log, cost, whole_unet=chosen.method == "full")
