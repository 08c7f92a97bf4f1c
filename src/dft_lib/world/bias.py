"""The truth of the emoji world: which groups a role is shown with under neutral captions.

It is the table ``bias.csv`` beside the world's settings: per role the share of women (professions:
published labour statistics, amplified; other kinds: log-odds drawn once) and a tilt of the
skin-tone shares, which may differ between women and men.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dft_lib.raters.drawings.skin_colours import TONES
from dft_lib.repro.paths import show
from dft_lib.world.art import GENDERS
from dft_lib.world.settings import Corpus, Settings, read_table


def tilted(shares: np.ndarray, tilt: float) -> np.ndarray:
    """Tilt shares over an ordered scale by ``exp(tilt * rank)`` and normalise to 1."""
    weights = shares * np.exp(tilt * (np.arange(len(shares)) - (len(shares) - 1) / 2))
    return weights / weights.sum()


def amplified(share: float, settings: Corpus) -> float:
    """Raise the odds of `share` to `odds_power`, kept within `odds_limits`."""
    odds = (share / (1 - share)) ** settings.odds_power
    return float(np.clip(odds / (1 + odds), *settings.odds_limits))


def planted(world: Settings) -> pd.DataFrame:
    """Return what ``bias.csv`` plants under neutral captions.

    Returns
    -------
    pandas.DataFrame
        Index: role, and "person". Columns: ``woman`` (share, 0 to 1), ``tilt_woman`` and
        ``tilt_man`` (`tilted`: above 0 is darker).

    Raises
    ------
    ValueError
        If the table lacks a column, or a role has both a statistic and log-odds, or neither.
    """
    settings, path = world.corpus, world.folder / "bias.csv"
    table = read_table(world.folder, "bias", ("noun", "percent_women", "tone_tilt"))
    table["percent_women"] = pd.to_numeric(table["percent_women"])  # empty: none
    drawn = pd.to_numeric(table.get("log_odds_woman", pd.Series(np.nan, index=table.index)))
    apart = table.get("tone_by_gender", pd.Series(0.0, index=table.index)).fillna(0.0)
    odd = table.loc[table["percent_women"].isna() == drawn.isna(), "noun"]
    if len(odd):
        raise ValueError(
            f"{show(path)}: {odd.iloc[0]!r} needs percent_women or log_odds_woman, and not both"
        )
    rows = {}
    for row, log_odds, d in zip(table.itertuples(), drawn, apart, strict=True):
        share = (
            amplified(float(row.percent_women) / 100, settings)
            if np.isnan(log_odds)
            else float(1 / (1 + np.exp(-log_odds)))
        )
        rows[row.noun] = [share, row.tone_tilt + d, row.tone_tilt - d]
    rows["person"] = [amplified(settings.person_percent_women / 100, settings), 0.0, 0.0]
    columns = ["woman", "tilt_woman", "tilt_man"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def joint(world: Settings) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return role -> (shares of `GENDERS`, (2,); shares of `TONES` given the gender, (2, 5))."""
    base = np.array(world.corpus.tone_shares)
    out = {}
    for row in planted(world).itertuples():
        tones = np.stack([tilted(base, float(t)) for t in (row.tilt_woman, row.tilt_man)])
        out[str(row.Index)] = np.array([row.woman, 1 - row.woman]), tones
    return out


def truth(world: Settings) -> pd.DataFrame:
    """Return the corpus's true shares per role under neutral captions.

    Returns
    -------
    pandas.DataFrame
        Index: role, and "person". Columns: ``woman``, ``man`` and the five tones; gender shares
        sum to 1 and tone shares sum to 1 in every row.
    """
    rows = {name: [*genders, *genders @ tones] for name, (genders, tones) in joint(world).items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=[*GENDERS, *TONES])
