"""Draw the planted bias of a world once: ``python -m dft_lib.world.plant --world world/wide``.

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

from dft_lib.repro.files import write_table
from dft_lib.repro.noise import keyed_rng
from dft_lib.repro.paths import enter
from dft_lib.world import settings

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


def main() -> None:
    """Write ``bias.csv`` of a world from its ``roles.csv`` and ``statistics.csv``."""
    enter()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--world", type=settings.named, required=True)
    world = parser.parse_args().world
    try:
        roles = settings.read_table(world.folder, "roles", ("noun", "kind"))
        columns = ("noun", "percent_women", "tone_tilt")
        statistics = settings.read_table(world.folder, "statistics", columns)
        write_table(world.folder / "bias.csv", plant(roles, statistics, world.seed))
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
