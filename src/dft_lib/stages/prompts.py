"""Notebook 01: write the prompt grids."""

from __future__ import annotations

import pandas as pd

from dft_lib.models import pipelines
from dft_lib.models.conditioning import require_distinct
from dft_lib.repro import seals, workspace
from dft_lib.repro.files import write_table
from dft_lib.repro.paths import resolve
from dft_lib.study import lexicon, prompts
from dft_lib.study.base import Base
from dft_lib.study.prompts import Prompts


def make_prompts(base: Base, settings: Prompts) -> tuple[pd.DataFrame, pd.DataFrame]:
    """01: write the training and the evaluation grid; return both.

    Stops where the base model's text encoder cannot read a prompt, or tell two apart.
    """
    words = lexicon.load(base.lexicon_folder)
    named = list(words.chosen(base.target))
    out = resolve(settings.out)
    key = [
        base.model_dump(),
        settings.model_dump(),
        seals.hash_of(resolve(base.lexicon_folder)),
    ]
    training_grid = prompts.training_grid(words, settings, named)
    evaluation_grid = prompts.evaluation_grid(words, settings, named, base.held_out)
    both = pd.concat([training_grid, evaluation_grid])
    require_distinct(
        pd.concat([both["prompt"], both["caption"]]),
        pipelines.tokenizers(base.model),
    )
    with workspace.hold("prompts", out, key) as folder:
        write_table(folder / "publish" / "training.parquet", training_grid)
        write_table(folder / "publish" / "evaluation.parquet", evaluation_grid)
        workspace.publish(folder / "publish", out)
    return training_grid, evaluation_grid
