"""What a world plants, in ``bias.csv`` beside its settings: which groups a role is shown with.

Per role the share of women (professions: published labour statistics, amplified; other kinds:
log-odds drawn once) and a tilt of the skin-tone shares, which may differ between women and men.

``python -m dft_lib.world.plant --world world/wide`` draws that table once.

Professions keep their labour statistics. Of every other kind of role, whatever is drawn of it
later, the log-odds of "woman" are stratified: [-4, 4] is cut into as many equal parts as the kind
has roles, a value is drawn evenly from each, and the values are dealt at random. So every kind
has roles of both directions and some near even, and no statistic is claimed for fairies. The tilt
of skin tone is even in [-0.4, 0.4]; in half of all roles (professions too) women and men differ in
it by twice an amount that is even in [-0.5, 0.5]: there gender and tone depend on each other.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import pandas as pd

from dft_lib.raters.drawings.skin_colours import TONES
from dft_lib.repro.files import write_table
from dft_lib.repro.noise import keyed_rng
from dft_lib.repro.paths import enter, show
from dft_lib.world.art import GENDERS
from dft_lib.world.settings import Corpus, Settings, named, read_table

LIMIT = 4.0  # of log-odds
TILT = 0.4
APART = 0.5
PART_APART = 0.5  # share of the roles in which tone goes with gender


def plant(roles: pd.DataFrame, statistics: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the table of planted bias, a row per role in their order.

    Parameters
    ----------
    roles : pandas.DataFrame
        Columns ``noun, kind``.
    statistics : pandas.DataFrame
        Of professions: ``noun, percent_women, tone_tilt`` and where the share comes from.
    seed : int
        Of the world.

    Raises
    ------
    ValueError
        If a profession has no statistic.
    """
    known = statistics.set_index("noun")
    log_odds: dict[str, float] = {}
    for kind, group in roles[roles["kind"] != "profession"].groupby("kind", sort=False):
        rng = keyed_rng(seed, "bias", str(kind))
        n = len(group)
        values = -LIMIT + 2 * LIMIT * (np.arange(n) + rng.uniform(size=n)) / n
        log_odds |= dict(zip(group["noun"], rng.permutation(values), strict=True))
    chosen = keyed_rng(seed, "bias", "apart").permutation(len(roles)) < PART_APART * len(roles)
    rows = []
    for role, apart in zip(roles.itertuples(), chosen, strict=True):
        noun = str(role.noun)
        rng = keyed_rng(seed, "bias", "tone", noun)
        tilt, d = rng.uniform(-TILT, TILT), rng.uniform(-APART, APART)
        row = {"noun": noun, "kind": role.kind, "tone_by_gender": d if apart else 0.0}
        if noun in log_odds:
            row |= {"log_odds_woman": log_odds[noun], "tone_tilt": tilt,
                    "source": "drawn, see dft_lib.world.plant"}  # fmt: skip
        elif noun in known.index:
            row |= known.loc[noun].dropna().to_dict()
        else:
            raise ValueError(f"the statistics have no row for the profession {noun!r}: add one")
        rows.append(row)
    columns = ["noun", "kind", "percent_women", "log_odds_woman", "tone_tilt", "tone_by_gender",
               "source_row", "source", "year", "note"]  # fmt: skip
    drawn = pd.DataFrame(rows).reindex(columns=columns).round({"log_odds_woman": 2,
        "tone_tilt": 2, "tone_by_gender": 2})  # fmt: skip
    return drawn.astype({"year": "Int64"})


def tilted(shares: np.ndarray, tilt: float) -> np.ndarray:
    """Tilt shares over an ordered scale by ``exp(tilt * rank)`` and normalise to 1."""
    weights = shares * np.exp(tilt * (np.arange(len(shares)) - (len(shares) - 1) / 2))
    return weights / weights.sum()


def amplified(share: float, chosen: Corpus) -> float:
    """Raise the odds of `share` to `odds_power`, kept within `odds_limits`."""
    odds = (share / (1 - share)) ** chosen.odds_power
    return float(np.clip(odds / (1 + odds), *chosen.odds_limits))


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
    chosen, path = world.corpus, world.folder / "bias.csv"
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
            amplified(float(row.percent_women) / 100, chosen)
            if np.isnan(log_odds)
            else float(1 / (1 + np.exp(-log_odds)))
        )
        rows[row.noun] = [share, row.tone_tilt + d, row.tone_tilt - d]
    rows["person"] = [amplified(chosen.person_percent_women / 100, chosen), 0.0, 0.0]
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


def main() -> None:
    """Write ``bias.csv`` of a world from its ``roles.csv`` and ``statistics.csv``."""
    enter()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--world", type=named, required=True)
    world = parser.parse_args().world
    try:
        roles = read_table(world.folder, "roles", ("noun", "kind"))
        columns = ("noun", "percent_women", "tone_tilt")
        statistics = read_table(world.folder, "statistics", columns)
        write_table(world.folder / "bias.csv", plant(roles, statistics, world.seed))
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
