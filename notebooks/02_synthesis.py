# ---
# jupyter:
#   language_info:
#     name: python
# ---

# %% [markdown]
# # 02 Synthesis: the teacher draws the training set
#
# **Question.** Can a biased model draw a balanced training set, and how balanced is what is left
# after screening?
#
# | | |
# |---|---|
# | in | `training.parquet` of notebook 01; the teacher (by default the base model itself); the steering raters |
# | out | Parquet shards of images with their records; `index.parquet`: verdict and weight of every image; `audit.json` |
# | minutes | about 2 in the study, 0.3 on smoke values |
#
# A model that learned from pictures in which 97 of 100 firefighters are drawn as men can still draw a
# woman firefighter when asked. DFT uses that: it asks for every cell of the grid, keeps the good
# images and trains on them.

# %%
import pandas as pd

from dft_lib.figures import shares, sheets, style
from dft_lib.image_sets import audit, screening
from dft_lib.repro import shards
from dft_lib.repro.paths import resolve
from dft_lib.stages.synthesis import synthesise
from dft_lib.study.base import Base, smoke_base
from dft_lib.study.params.synthesis import Synthesis
from dft_lib.study.schema import gather

# %% [markdown]
# ## Parameters
#
# Small values; output in `scratch/`. The prompts are a fixture in git, so this notebook opens in a
# fresh clone.

# %% tags=["parameters"]
base = smoke_base()
prompts = "notebooks/fixtures/prompts"
teacher = "data/tiny-sd"
shard_size = 32
forbidden_terms = []
minimum_per_cell = 0
out = "scratch/open/synthetic"
audit_file = "scratch/open/audit.json"

# %% [markdown]
# ## Draw and screen
#
# Each image has its own noise, keyed by study seed, prompt and replicate, so the set is the same
# in whatever order it is drawn, and an interrupted run goes on where it stopped.
#
# Screening keeps an image of the balanced set if the *steering* raters see a person of the asked
# profession and of every group asked for (`unclear` is not good enough); of the unbalanced set, a person of the
# profession; of the general set, the thing and nobody. Where `base.steer` names a filter under
# `unsafe` (photographs only), what it flags is rejected, and never shown. These raters never judge
# a model: notebook 04 uses others, which look at other evidence, and the library refuses to mix the two.

# %%
base_settings = gather(Base, base)
settings = gather(Synthesis, globals())
index = synthesise(base_settings, settings)
index.groupby("set")["verdict"].value_counts().unstack(fill_value=0)

# %% [markdown]
# ## Look at it
#
# The first images of the balanced set, one per prompt, in grid order: one profession after the
# other, and in each (here) women from light to dark, then men. Numbers never replace looking.

# %%
style.use_style()
shown = (index["set"] == "balanced") & (index["verdict"] != screening.UNSAFE)
firsts = index[shown & (index["replicate"] == 0)].index[:24]
pictures = shards.pick(resolve(out), firsts)
rows = {"balanced": {"first image of each prompt": pictures[:12]}}
if len(pictures) == 24:
    rows |= {"": {"first image of each prompt": pictures[12:]}}
figure = sheets.sheet(rows)

# %% [markdown]
# What screening rejected, again the first ones. Is the rater right, or the picture?

# %%
figure = sheets.first_rejected(resolve(out), index, 12)

# %% [markdown]
# What was asked for these pictures, and what the steering raters saw.

# %%
rejected = index[screening.rejected(index["verdict"])]
rejected.filter(regex="^(prompt|rated_.*|verdict)$").head(12)

# %% [markdown]
# ## Audit: asked for, drawn, kept, weighted
#
# Screening skews: a rater that misses women under hats removes them. So the kept images of each
# cell are weighted until every cell counts as the target says. The audit shows all four stages, as
# the steering raters see them (dotted: the target).
#
# In the balanced set "kept" and "weighted" agree with what was asked *by construction*: the same
# raters screened. What they misread does not show here; see `world/results/rater_errors_by_name.csv`.
# And a weight cannot bring back a cell that lost all its images: that is what `minimum_per_cell` is
# for.

# %%
table = audit.representation(index, base_settings.target)
first, *others = base_settings.target
figure = shares.representation(table, first)

# %% [markdown]
# And the same for the other attributes. `unclear` stands beside the groups: it is an answer.

# %%
more = [shares.representation(table, attribute) for attribute in others]

# %% [markdown]
# A filter of unsafe pictures skews too (they flag women and bare skin more often): how many of each
# group it rejected. Without a filter, as here, the table is empty.

# %%
audit.flagged(index, base_settings.target)

# %% [markdown]
# The control set `unbalanced` is what the base model draws when no group is named, cut to the same
# number of images per profession. Its skew is the base model's own.
#
# The weights are used when batches are drawn in training: each profession counts once, and inside
# a profession each cell counts once.

# %%
used = index[index["weight"] > 0]
used.groupby("set").agg(images=("weight", "size"), nouns=("noun", "nunique"))

# %% [markdown]
# ## Try it
#
# 1. Set `minimum_per_cell = 1`. Which cell stops the study? Find its image below "rejected": what did
#    the rater see?
# 2. Predict who is drawn for plain "an artist", then look:
#    `index[(index["set"] == "unbalanced") & (index["noun"] == "artist")]["rated_gender"].value_counts()`.
# 3. Put "woman" into `forbidden_terms`. What does the audit show, and what would training learn?

# %%
assert (resolve(out) / shards.INDEX).exists() and resolve(audit_file).exists()
assert len(pd.read_parquet(resolve(out) / shards.INDEX)) == len(index)
