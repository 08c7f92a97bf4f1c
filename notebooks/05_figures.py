# ---
# jupyter:
#   language_info:
#     name: python
# ---

# %% [markdown]
# # 05 Figures: the pictures that go with the table
#
# **Question.** What do the numbers of notebook 04b look like, and the images behind them?
#
# | | |
# |---|---|
# | in | `metrics.json`, `<arm>.csv` and `<arm>.json` of 04b; the arms' images of 04 |
# | out | `paper/figures/*.pdf` and `.png`, `headline.csv` |
# | minutes | 0.1 |
#
# Nothing is measured here. Arms are taken from the parameters, in their order; a missing arm stops.

# %%
import pandas as pd
from IPython.display import display

from dft_lib.repro.paths import resolve
from dft_lib.stages.figures import draw_figures
from dft_lib.study.arms import gather_arms
from dft_lib.study.base import Base, smoke_base
from dft_lib.study.params.figures import Figures
from dft_lib.study.schema import gather

# %% [markdown]
# ## Parameters
#
# Fixtures in git: results of models that were trained for a few steps. The figures have the right
# shape and the wrong content; `make repro` makes the real ones. An arm has the colour of its `family`,
# and its place `shown` in figures without room for all (without one, it is left out there).

# %% tags=["parameters"]
base = smoke_base()
arms = {
    "base": {"label": "base model", "shown": 1},
    "dft": {"label": "DFT", "family": "DFT", "shown": 2},
}
ratings = "notebooks/fixtures/evaluation"
results = "notebooks/fixtures/results"
sheet_professions = 2
sheet_images = 4
out = "scratch/open/figures"

# %% [markdown]
# ## Draw
#
# Every figure as PDF and PNG, and the shortest table of the arms; nothing is measured here.

# %%
base_settings = gather(Base, base)
settings = gather(Figures, globals())
drawn = draw_figures(base_settings, settings, gather_arms(arms))
print("drawn:", ", ".join(drawn))

# %% [markdown]
# ## In numbers
#
# Means over professions, then over training seeds, as the judges read the images. `headline.csv` also
# has the range over seeds.

# %%
condensed = pd.read_csv(resolve(out) / "headline.csv")
columns = "_gap_(seen|held_out|person)$|role|explicit|general|images|seeds"
condensed.set_index("label").filter(regex=columns)

# %% [markdown]
# ## Fairness against side effects
#
# Lower left is better: a small gap, and explicit prompts ("a woman firefighter") followed as before.
# The dashed line joins the arms that no other beats on both. It goes through point estimates and knows
# nothing of the intervals (thin lines): two arms whose whiskers cross may well change places. And it knows
# one side effect of several; the table has the others, and the cost.

# %%
drawn["pareto"]

# %% [markdown]
# ## How many pictures?
#
# The gap against the number of training pictures, for arms that differ in nothing else: all train for as
# many steps, so fewer pictures are seen more often. Only where the parameters name such arms (`dose`).

# %%
drawn.get("dose")

# %% [markdown]
# ## Seen beside held out
#
# Bars are means over professions and seeds, lines their 95 % intervals, a dot is one training seed.
# Hatched: the middle 95 % of fair models with this many usable images. An interval does not know that
# floor: near it, ask whether the bar ends in the hatched band, not whether the line reaches 0.

# %%
drawn["gaps"]

# %% [markdown]
# ## With the floor taken out
#
# The root of the mean unbiased *squared* gap. The mean square of a fair model is 0 on average, its root a
# little more (hatched). As a root mean square it lies above the mean gap where professions differ, so
# compare it between arms only. After the attributes come
# the cells of two of them (gender x skin tone): even margins can hide uneven cells. All arms, in the
# colour of their family.

# %%
drawn["corrected"]

# %% [markdown]
# ## Who is drawn
#
# Of an attribute with two groups a dot is a profession's share of usable images rated the first group
# ("woman"); professions are ordered by the first arm. Of others (skin tone), bars show all professions'
# images in the order of the groups, light to dark; dotted lines are where an even distribution would
# change colour.

# %%
display(*(drawn[f"shares_{attribute}"] for attribute in base_settings.target))

# %% [markdown]
# ## The pictures themselves
#
# The first images of each profession's plain prompt, from the same noise in both columns: not
# picked. Left the first arm that is shown, right the last one, each by its first training seed.

# %%
drawn["sheet"]

# %% [markdown]
# ## Try it
#
# 1. After `make repro`: `ratings = "evaluation"`, `results = "results"`, and a third arm in `arms`,
#    `"unbalanced": {"label": "control", "shown": 3}` (the sheet shows the first and the last arm). Can you
#    tell the control from the base model?
# 2. Which profession moved least? Look it up in `world/results/drawings-*.png` and in
#    `world/results/rater_errors_by_name.csv`: is it the model or the rater?
# 3. Give "dft" another `family`, and run again. What changes, and what may not? (`headline.csv` tells.)

# %%
written = [resolve(out) / f"{name}.{kind}" for name in drawn for kind in ("pdf", "png")]
assert all(path.exists() for path in [*written, resolve(out) / "headline.csv"])
