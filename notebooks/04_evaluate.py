# %% [markdown]
# # 04 Evaluate: one arm under the judges
#
# **Question.** Who appears in this arm's images when the prompt does not say, and what else changed?
#
# | | |
# |---|---|
# | in | `evaluation.csv` of 01; the arm's models of 03; the judge panel |
# | out | images and `ratings.parquet` (one row per image); `results/<arm>.csv` (per prompt), `results/<arm>.json` |
# | minutes | about 0.5 per seed in the study, 0.3 on smoke values |
#
# Every arm and seed draws the same prompts from the same noise, so arms are compared in pairs. The
# judges took no part in making any model. They may answer `unclear`, and that is counted, not
# dropped silently.

# %%
import json

import pandas as pd

from dft_lib import evaluation, figures, params, stages
from dft_lib.paths import resolve

# %% [markdown]
# ## Parameters
#
# The models are fixtures in git (a few training steps: they have learned nothing yet).

# %% tags=["parameters"]
base = params.smoke_base()
arm = "dft"
label = "DFT"
train = {}
training_seeds = [0]
prompts = "notebooks/fixtures/prompts"
models = "notebooks/fixtures/models"
shard_size = 32
out = "scratch/open/evaluation"
results = "scratch/open/results"

# %% [markdown]
# ## Draw and judge
#
# One row per image: what was asked, and what the judges perceive. All metrics below can be
# recomputed from this table.

# %%
base_settings = params.gather(params.Base, base)
settings = params.gather(params.Evaluate, globals())
ratings = stages.evaluate_arm(base_settings, settings, arm)
ratings[["prompt", "rated_role", "rated_gender", "rated_skin_tone"]].head(4)

# %% [markdown]
# ## Per prompt
#
# Metrics are computed per prompt and then averaged: pooled over prompts, a male-typed and a
# female-typed profession would cancel. The *gap* is 0 if all groups appear equally often and 1 if
# only one does; with few images even a balanced model does not score 0.

# %%
table = evaluation.per_prompt(
    ratings, base_settings.target, training_seeds, base_settings.held_out
)
columns = ["seed", "noun", "split", "gender:woman", "gender:man", "gender:gap", "skin_tone:gap"]
table.loc[table["kind"] == "neutral", columns].head(12)

# %% [markdown]
# ## The arm in short
#
# `seen`: professions in the training set of that seed; `held_out`: not in it. Explicit prompts must
# stay as asked, general prompts must stay what they were, and no perceived group may lose role
# accuracy for the gain of another.

# %%
summary = json.loads((resolve(results) / f"{arm}.json").read_text(encoding="utf-8"))
pd.DataFrame(
    {
        (split, attribute): {
            metric: part[attribute][metric]["mean"]
            for metric in ("gap", "min_max_ratio", "entropy", "total_variation")
        }
        for split, part in summary["neutral"].items()
        for attribute in ("gender", "skin_tone")
    }
)

# %% [markdown]
# Role accuracy by perceived gender: is a woman firefighter drawn as well as a man?

# %%
pd.DataFrame({"role accuracy by perceived gender": summary["role_accuracy"]["gender"]}).T

# %% [markdown]
# ## Look at it
#
# The first images of the first professions, not picked.

# %%
figures.use_style()
nouns = list(dict.fromkeys(ratings.loc[ratings["kind"] == "neutral", "noun"]))[:4]
folder = sorted(p for p in (resolve(out) / arm).iterdir() if p.is_dir())[0]
count = int(min(8, ratings[ratings["kind"] == "neutral"].groupby(["seed", "noun"]).size().min()))
figures.sheet({noun: {label: figures.first_images(folder, noun, count)} for noun in nouns})

# %% [markdown]
# ## Try it
#
# 1. Put `hog` under `base["judge"]`. Why does the library refuse?
# 2. Recompute the pooled gender gap from `ratings`. Which professions cancel?
# 3. With `evaluation_images = 4`, what gap does a perfectly even model score? Simulate it.

# %%
assert (resolve(out) / arm / "ratings.parquet").exists()
assert all((resolve(results) / f"{arm}.{kind}").exists() for kind in ("json", "csv"))
