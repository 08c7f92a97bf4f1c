# ---
# jupyter:
#   language_info:
#     name: python
# ---

# %% [markdown]
# # 04 Evaluate: one arm under the judges
#
# **Question.** Who appears in this arm's images when the prompt does not say, and what else changed?
#
# | | |
# |---|---|
# | in | `evaluation.parquet` of 01; the arm's models of 03; the judge panel |
# | out | images and `ratings.parquet` (one row per image); `results/<arm>.csv` (per prompt), `results/<arm>.json` |
# | minutes | about 0.5 per seed in the study, 0.3 on smoke values |
#
# Every arm and seed draws the same prompts from the same noise, so arms are compared in pairs. The
# judges neither screened nor trained for any arm (they did measure whether the base model is good
# enough to study). They may answer `unclear`, and that is counted, not dropped silently.

# %%
import json

import pandas as pd

from dft_lib import figures, stages
from dft_lib.evaluation import tables
from dft_lib.repro.paths import resolve
from dft_lib.study import params

# %% [markdown]
# ## Parameters
#
# The models are fixtures in git (a few training steps: they have learned nothing yet).

# %% tags=["parameters"]
base = params.smoke_base()
arm = "dft"
label = "DFT"
recipe = "denoising"
data = "notebooks/fixtures/synthetic"
train = {}
intervention = "none"
draw = {}
training_seeds = [0]
lexicon_folder = "lexicon"
prompts = "notebooks/fixtures/prompts"
models = "notebooks/fixtures/models"
features = "convnet"
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
treatment = params.gather(params.Arm, globals())
ratings = stages.evaluate_arm(base_settings, settings, arm, treatment)
ratings.filter(regex="^(prompt|rated_.*)$").head(4)

# %% [markdown]
# ## Per prompt
#
# Metrics are computed per prompt and then averaged: pooled over prompts, a male-typed and a
# female-typed profession would cancel. The *gap* is 0 if all groups appear equally often and 1 if
# only one does; with few images even a balanced model does not score 0. Beside it:
# `min_max_ratio`, the rarest share over the commonest (1 even, 0 a group never shown); `entropy` (1
# even, 0 only one group); `total_variation`, half the L1 distance to the target (0: as the target).

# %%
table = tables.per_prompt(ratings, base_settings.target, training_seeds, base_settings.held_out)
columns = ["seed", "noun", "split", "gender:woman", "gender:man", "gender:gap", "skin_tone:gap"]
table.loc[table["kind"] == "neutral", columns].head(12)

# %% [markdown]
# A dot is a profession. The further from the dotted line, the larger its gap, on either side of it.

# %%
figures.use_style()
figure = figures.profession_shares(table.assign(arm=arm), {arm: label})

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
# Role accuracy by perceived gender: is the profession as recognisable in people perceived as women
# as in people perceived as men?

# %%
pd.DataFrame({"role accuracy by perceived gender": summary["role_accuracy"]["gender"]}).T

# %% [markdown]
# ## Look at it
#
# The first images of the first professions, of the first training seed (or the base model): not
# picked.

# %%
nouns = list(dict.fromkeys(ratings.loc[ratings["kind"] == "neutral", "noun"]))[:4]
count = int(min(8, ratings[ratings["kind"] == "neutral"].groupby(["seed", "noun"]).size().min()))
folder = resolve(out) / arm
figure = figures.sheet(
    {noun: {label: figures.first_images(folder, noun, count)} for noun in nouns}
)

# %% [markdown]
# ## Try it
#
# 1. Add `base["judge"]["gender"] = "hog"` to the parameters. Why does the library refuse?
# 2. After `make repro`: read `resolve("results/base.csv")`, sum `gender:woman` and `gender:man` over
#    the neutral prompts, and compute the gap of the sums. Why is it so much smaller than the mean gap?
# 3. The fixture has 4 images per prompt. What gender gap does a perfectly even model score on average?
#    Simulate it, then ask `dft_lib.fairness.floors.even_gap`. And with 40?

# %%
assert (resolve(out) / arm / "ratings.parquet").exists()
assert all((resolve(results) / f"{arm}.{kind}").exists() for kind in ("json", "csv"))
