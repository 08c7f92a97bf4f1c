# ---
# jupyter:
#   language_info:
#     name: python
# ---

# %% [markdown]
# # 04b Measure: from ratings to one table
#
# **Question.** Does diversity fine-tuning work, is it the balance that does it, and what does it cost?
#
# | | |
# |---|---|
# | in | every arm's `ratings.parquet`, `features.parquet` and `about.json` of 04; `benchmarks/minutes.csv`; `world/results/rater_confusion.csv` |
# | out | `results/<arm>.csv` (per prompt) and `<arm>.json`; `metrics.json` (intervals, floors, tests), `table.csv` and `table.md` |
# | minutes | 0.05 per arm |
#
# No picture is drawn and no model is loaded: another metric or another test costs seconds. Arms are taken
# from the parameters, never from whatever files happen to lie around. Language: groups are *perceived* by
# the judges; "gap" is a measured disparity of this model on these prompts.

# %%
import pandas as pd
from IPython.display import Markdown

from dft_lib.evaluation import comparison, side_effects
from dft_lib.figures import gaps, style
from dft_lib.repro.paths import resolve
from dft_lib.stages.measure import measure
from dft_lib.study.arms import gather_arms, shown
from dft_lib.study.base import Base, smoke_base
from dft_lib.study.params.measure import Measure
from dft_lib.study.schema import gather

# %% [markdown]
# ## Parameters
#
# Fixtures in git: ratings of models that were trained for a few steps. The table has the right shape and
# the wrong content; `make repro` makes the real one. An arm with `reference` is one that the others are
# tested against; `shown` and `family` belong to notebook 05.

# %% tags=["parameters"]
base = smoke_base()
arms = {
    "base": {"label": "base model", "shown": 1, "reference": True},
    "dft": {"label": "DFT", "family": "DFT", "shown": 2},
}
ratings = "notebooks/fixtures/evaluation"
minutes = "benchmarks/minutes.csv"
calibration = "world/results/rater_confusion.csv"
results = "scratch/open/results"

# %% [markdown]
# ## How to read a gap
#
# Metrics are computed per prompt and then averaged: pooled over prompts, a male-typed and a female-typed
# profession would cancel. The *gap* is 0 if all groups appear equally often and 1 if only one does.
#
# A coin that falls ten times rarely shows five heads. A *fair model*, one that draws every image from the
# target, has a gap above 0 for the same reason: below, what it scores at N images per prompt (bars: 95 %
# of simulated studies; mark: median). Grey is one prompt, blue the mean over ten.
#
# Averaging over prompts narrows the bar but does not bring it to 0: every prompt's gap is an absolute
# value. So a raw gap means nothing without the fair model's beside it, and a model that draws its images
# independently cannot be fairer than that, only luckier. The *corrected* gap takes most of this part out.

# %%
style.use_style()
figure = gaps.fair_model()

# %% [markdown]
# ## Measure
#
# Every metric of every arm with its 95 % interval (professions and training seeds resampled) and the
# fair model's score; differences from the reference arms by a sign-flip test over professions,
# Holm-corrected over arms. `docs/measurement.md` says what is in the files.

# %%
base_settings = gather(Base, base)
settings = gather(Measure, globals())
treatments = gather_arms(arms)
measured = measure(base_settings, settings, treatments)
print("judges:", ", ".join(f"{k} by {v}" for k, v in base_settings.judge.items()))

# %% [markdown]
# ## Per prompt
#
# `results/<arm>.csv` has a row per seed and prompt: counts of every group, and the metrics of them. Beside
# the gap: `min_max_ratio`, the rarest share over the commonest (1 even, 0 a group never shown); `entropy`
# (1 even, 0 only one group); `total_variation`, half the L1 distance to the target (0: as the target).
# `seen`: professions in the training set of that seed; `held_out`: not in it.

# %%
last = pd.read_csv(resolve(results) / f"{list(arms)[-1]}.csv")
of_gaps = [f"{attribute}:gap" for attribute in base_settings.target]
last.loc[last["kind"] == "neutral", ["seed", "noun", "split", "images", *of_gaps]].head(12)

# %% [markdown]
# ## The results in one table
#
# An arm per row: outcomes with intervals and tests, then what one model costs. Seconds are those of the
# machine named below it, not of this run. `table.csv` has every column: differences from all reference
# arms, p values, floors. An arm that aims at another target than the study's is measured against the
# study's all the same: read its gap knowing that.

# %%
Markdown(measured.text)

# %% [markdown]
# ## Which differences are more than chance?
#
# Differences of the raw gap with interval and with each training seed's own, and the tests (of the
# squared gap, so that unequal numbers of usable images do not matter). `p` generalises over professions
# *for these trained models*: about another training run only the seeds can say something, so look
# whether they agree. With few professions even the smallest possible p is large, and "not significant"
# then says nothing. Below: the arms of `shown`; all are in `table.csv` and `metrics.json`.

# %%
tests = pd.DataFrame(comparison.tests_table(measured.metrics))
tests[tests["arm"].isin(shown(treatments))]

# %% [markdown]
# ## What else changed
#
# Explicit prompts followed, pictures without people, how evenly well professions are drawn for every
# perceived group, how different the images of one group are from each other, and how far images of
# explicit and general prompts moved from the base model's (in the named feature space; not FID).
# Explicit prompts must stay as asked, general prompts must stay what they were, and no perceived group
# may lose role accuracy for the gain of another.

# %%
print("features:", measured.metrics["feature_space"])
pd.DataFrame(side_effects.table_of(measured.metrics)).T

# %% [markdown]
# ## Try it
#
# 1. After `make repro`: read `resolve("results/base.csv")`, sum `gender:woman` and `gender:man` over the
#    neutral prompts, and compute the gap of the sums. Why is it so much smaller than the mean gap?
# 2. The fixture has 4 images per prompt. What gender gap does a perfectly even model score on average?
#    Simulate it, then ask `dft_lib.fairness.floors.even_gap`. And with 40?
# 3. After `make repro`: `ratings = "evaluation"`, and a third arm, `"unbalanced": {"label": "control",
#    "reference": True}`. What does DFT add to fine-tuning on the base model's own distribution?
# 4. `last.groupby("split")["gender:min_max_ratio"].mean()`: does the story change? Should it?

# %%
written = [f"{arm}.{kind}" for arm in arms for kind in ("csv", "json")]
written += ["metrics.json", "table.csv", "table.md"]
assert all((resolve(results) / name).exists() for name in written)
