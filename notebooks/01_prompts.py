# ---
# jupyter:
#   language_info:
#     name: python
# ---

# %% [markdown]
# # 01 Prompts: what is asked of the model
#
# **Question.** Which prompts train the models, and which ones judge them?
#
# | | |
# |---|---|
# | in | `lexicon/*.csv`: professions, groups, things without people, each row with its source |
# | out | `training.parquet`, `evaluation.parquet`: one row per prompt, with how many images of it are drawn |
# | minutes | a few seconds |
#
# Diversity fine-tuning (DFT) multiplies lists of words: professions x the groups of every attribute
# that the study names in its target, here perceived genders x perceived skin tones. This notebook does
# the multiplication, and keeps apart what may train a model and what judges it. Notebook 02 draws from
# the first table and notebook 04 from the second.

# %%
import pandas as pd
import seaborn as sns

from dft_lib.figures import style
from dft_lib.repro.paths import resolve
from dft_lib.stages.prompts import make_prompts
from dft_lib.study import lexicon
from dft_lib.study.base import Base, smoke_base
from dft_lib.study.prompts import Prompts
from dft_lib.study.schema import gather

# %% [markdown]
# ## Parameters
#
# Opened by hand, a notebook runs on these small values and writes to `scratch/`. In the study, DVC
# passes the values of `params.yaml` instead, under the same names.

# %% tags=["parameters"]
base = smoke_base()
train_templates = ["{a}", "a photo of {a}"]
evaluation_templates = ["{a}"]
images_per_cell = 2
person_images_per_cell = 2
general_images = 1
evaluation_images = 4
explicit_images = 1
evaluation_general_images = 1
professions = 1
out = "scratch/open/prompts"

# %% [markdown]
# ## The lists
#
# Professions carry a *fold*. The model with training seed `s` is never *fine-tuned* on a profession
# of fold `s mod 3` (the base model knows all of them), so over three seeds every profession is held
# out once. The fold `validation` is for tuning: it always trains, and never counts in the study's
# results.
#
# Groups are *perceived* groups: what a rater reads in a picture, not who somebody is. Two genders
# and five tones are what the drawings can show, not all there is.

# %%
base_settings = gather(Base, base)
words = lexicon.load(base_settings.lexicon_folder)
words.professions.groupby("fold")["profession"].agg(", ".join).to_frame()

# %% [markdown]
# ## The grids
#
# Training prompts come in three sets. **balanced** asks for every cell (a group of each attribute)
# of every profession equally often. **unbalanced** asks for as many images without naming a group, so it
# shows whatever the base model prefers: it is the control that tells balance from mere
# fine-tuning. **general** has no people in it and preserves everything else.

# %%
settings = gather(Prompts, globals())
training, evaluation = make_prompts(base_settings, settings)
training.groupby("set").agg(prompts=("prompt", "size"), images=("images", "sum"))

# %% [markdown]
# Every training prompt also has a *caption*: the prompt without the attributes. Whether the model
# learns the picture under the prompt or under the caption is the study's sharpest question (arms
# `dft_captions_kept` and `dft`), so both are written down here, side by side. Balanced and unbalanced
# also ask for *a person*, without a profession. On these small values the grids take one profession
# per fold (`professions = 1`; 0, as in the study, takes all).

# %%
named = list(base_settings.target)
training.groupby("set").head(2)[["prompt", "caption", *named, "images"]]

# %% [markdown]
# Evaluation prompts come in four kinds. **neutral** names a profession and no group: here the bias
# shows. **person** names neither. **explicit** names a group of every attribute, and must stay as asked:
# a model that draws women when asked for men is no improvement. **general** must stay what it was.

# %%
kinds = evaluation.groupby("kind").agg(prompts=("prompt", "size"), images=("images", "sum"))
kinds.assign(example=evaluation.groupby("kind")["prompt"].first())

# %% [markdown]
# How the images of the training sets spread over what is asked for: the balanced set is flat by
# construction, whatever the model will make of it.

# %%
style.use_style()
asked = training[training["set"] == "balanced"]
cells = asked.groupby(named, sort=False)["images"].sum()
cells = cells.unstack() if len(named) > 1 else cells.to_frame()
axis = sns.heatmap(cells, annot=True, fmt="d", cmap="crest", cbar=False, square=True)
axis.set(title="balanced set: images per cell", xlabel="", ylabel="")
axis.grid(visible=False)

# %% [markdown]
# ## Try it
#
# 1. Write a profession into `lexicon/professions.csv` twice and run the notebook again. What stops it?
#    (`git checkout lexicon` undoes it.)
# 2. How many images does the balanced set need if a third attribute with three groups is added?
# 3. What would the template `"a photo of a {}"` do to *artist*? Which words fool
#    `dft_lib.study.articles.article`? Try *herbalist* and *SQL developer*.

# %%
written = [resolve(out) / "training.parquet", resolve(out) / "evaluation.parquet"]
assert all(path.exists() for path in written)
assert len(pd.read_parquet(written[0])) == len(training)
