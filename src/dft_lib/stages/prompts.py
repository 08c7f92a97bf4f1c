"""Notebook 01: write the prompt grids."""

from __future__ import annotations

import pandas as pd

from dft_lib.repro.files import write_table
from dft_lib.repro.paths import resolve
from dft_lib.study import lexicon, prompts
from dft_lib.study.params import Base, Prompts


def make_prompts(base: Base, settings: Prompts) -> tuple[pd.DataFrame, pd.DataFrame]:
    """01: write the training and the evaluation grid; return both."""
    words = lexicon.load(base.lexicon_folder)
    named = list(words.chosen(base.target))
    training_grid = prompts.training_grid(words, settings, named)
    evaluation_grid = prompts.evaluation_grid(words, settings, named, base.held_out)
    write_table(resolve(settings.out) / "training.parquet", training_grid)
    write_table(resolve(settings.out) / "evaluation.parquet", evaluation_grid)
    return training_grid, evaluation_grid
