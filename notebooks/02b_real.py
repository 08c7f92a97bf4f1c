# ---
# jupyter:
#   language_info:
#     name: python
# ---

# %% [markdown]
# # 02b Real pictures: the corpus and the art
#
# **Question.** If nobody had a teacher to draw missing pictures, how far would the pictures there
# are already go?
#
# | | |
# |---|---|
# | in | `training.parquet` of notebook 01; the art and the biased corpus, or a folder of labelled photographs |
# | out | Parquet shards of pictures with their records; `index.parquet` with the weight of every picture |
# | minutes | 0.9 in the study, 0.2 on small values |
#
# The usual remedies for a skewed data set need no generator: show what is rare more often
# (oversampling), or change at random what should not matter (domain randomisation). They are what
# DFT must be compared with. No model draws here and no rater screens: labels are the truth of the
# drawings.

# %%
import pandas as pd

from dft_lib.figures import sheets, style
from dft_lib.image_sets import real
from dft_lib.repro import shards
from dft_lib.repro.paths import resolve
from dft_lib.stages.real import collect_real
from dft_lib.study.base import Base, smoke_base
from dft_lib.study.params.real import Real
from dft_lib.study.schema import gather

# %% [markdown]
# ## Parameters
#
# Small values; output in `scratch/`. The prompts are a fixture in git.
#
# `source` may also be a folder of labelled photographs: Parquet files with the columns `image`
# (the bytes of a PNG, JPEG or WebP file), `kind, noun` and the study's attributes, as
# `datasets.Dataset.to_parquet` writes them. They are turned upright and cut at the centre to
# squares; `docs/measurement.md` says what else is done to them. Photographs give `corpus`, `oversampled` and `general` only: nobody can draw
# the art, and recolouring faces in photographs is out of scope. `photographs`: no pictures yet.

# %% tags=["parameters"]
base = smoke_base()
prompts = "notebooks/fixtures/prompts"
source = "world/emoji"
images_per_profession = 20
shard_size = 64
out = "scratch/open/real"

# %% [markdown]
# ## Collect
#
# | set | pictures | weights |
# |---|---|---|
# | `corpus` | new ones from the distribution the base model was trained on, skew included | every picture of a profession alike |
# | `oversampled` | the same | every cell, a group of each attribute, as the target says |
# | `randomised` | the same figures in the same places; skin tone and colours of clothes at random | as `oversampled` |
# | `art` | the balanced grid of notebook 01, drawn by the artists: a teacher that never errs | as `oversampled` |
# | `general` | things, for preservation | every thing alike |
#
# Captions are neutral throughout and a profession's pictures take the templates in turn, so a
# caption never says who is shown.

# %%
base_settings = gather(Base, base)
settings = gather(Real, globals())
index = collect_real(base_settings, settings)
pd.DataFrame(real.summary(index, base_settings.target)).T

# %% [markdown]
# A cell that no picture shows cannot be shown more often. `empty_cells` counts them, and
# `unreachable` is the share of the target that they hold, the mean over professions: the limit of
# oversampling at this number of pictures, and what a teacher is for. Randomising the tone fills
# the tones of a gender that occurs; it cannot add a gender.

# %% [markdown]
# ## Look at it
#
# A row per set, drawn as a training batch is: by weight.

# %%
style.use_style()
shown = real.examples(resolve(out), index, 12, base_settings.study_seed)
figure = sheets.sheet({name: {"drawn by weight": found} for name, found in shown.items()})

# %% [markdown]
# The first pictures of the corpus beside the same ones randomised. In the drawings the change is
# clean, because skin and clothes are known colours; hair and background are random in every set. A
# profession that is known by a colour loses it.

# %%
sets = [name for name in ("corpus", "randomised") if name in shown]
pairs = {name: index.index[index["set"] == name][:12].to_numpy() for name in sets}
pairs = {name: {"first pictures": shards.pick(resolve(out), rows)} for name, rows in pairs.items()}
figure = sheets.sheet(pairs) if pairs else None

# %% [markdown]
# ## Shares before and after weighting
#
# Over professions: `pictures` counts them, `weighted` is what a batch shows on average. Where
# `weighted` misses the target, cells are empty.

# %%
table = real.shares(index, base_settings.target)
table.set_index(["set", "attribute", "group"]).round(3)

# %% [markdown]
# Weight is no picture: the rarer a cell, the more often a batch repeats the same few. `repeats` is
# the largest weight of one picture, in multiples of the mean picture of its profession.

# %%
people = index[index["kind"] == "profession"]
repeats = people["weight"] * people.groupby(["set", "noun"])["weight"].transform("size")
repeats.groupby(people["set"]).max().round(1).rename("repeats").to_frame()

# %% [markdown]
# ## Try it
#
# 1. Predict `unreachable` with `images_per_profession = 80`, then run. How many pictures would fill
#    every cell of "construction worker"?
# 2. Which cell is repeated most? `index.loc[repeats.idxmax()]`.
# 3. Is a randomised firefighter still a firefighter? Look for `noun == "firefighter"` in the study's set.

# %%
assert (resolve(out) / shards.INDEX).exists() and (resolve(out) / "manifest.json").exists()
assert len(pd.read_parquet(resolve(out) / shards.INDEX)) == len(index)
