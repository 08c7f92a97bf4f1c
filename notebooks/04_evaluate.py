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
# | out | images, `ratings.parquet` and `features.parquet` (one row per image), `about.json` |
# | minutes | about 0.5 per seed in the study, 0.3 on smoke values |
#
# Every arm and seed draws the same prompts from the same noise, so arms are compared in pairs. The
# judges neither screened nor trained for any arm (they did measure whether the base model is good
# enough to study). They may answer `unclear`, and that is counted, not dropped silently.

# %%
import pandas as pd

from dft_lib.figures import sheets, style
from dft_lib.repro.paths import resolve
from dft_lib.stages.evaluate import evaluate_arm
from dft_lib.study.arms import ArmSampling
from dft_lib.study.base import Base, smoke_base
from dft_lib.study.params.evaluate import Evaluate
from dft_lib.study.schema import gather

# %% [markdown]
# ## Parameters
#
# The models are fixtures in git (a few training steps: they have learned nothing yet).

# %% tags=["parameters"]
base = smoke_base()
arm = "dft"
intervention = "none"
draw = {}
prompts = "notebooks/fixtures/prompts"
models = "notebooks/fixtures/models"
features = "convnet"
shard_size = 32
out = "scratch/open/evaluation"

# %% [markdown]
# ## Draw and judge
#
# One row per image: what was asked, and what the judges perceive. Counts first: every metric of
# notebook 04b is computed from this table, so another metric needs no new image.

# %%
base_settings = gather(Base, base)
settings = gather(Evaluate, globals())
treatment = gather(ArmSampling, globals())
ratings = evaluate_arm(base_settings, settings, arm, treatment)
ratings.filter(regex="^(prompt|rated_.*)$").head(4)

# %% [markdown]
# ## Answers
#
# Per kind of prompt, the share of images that got each answer: `neutral` names a profession and no
# group, `person` neither, `explicit` names a group, `general` a thing without a person. `unclear` and
# `no_person` are answers too: whoever leaves them out chooses whom to count.

# %%
answers = {
    attribute: pd.crosstab(ratings["kind"], ratings[f"rated_{attribute}"], normalize="index")
    for attribute in base_settings.target
}
pd.concat(answers, axis=1).round(2)

# %% [markdown]
# The same for plain prompts of single professions. Read it with care: this adds up all seeds, and a few
# images say little about one profession. 04b says how little.

# %%
plain = ratings[ratings["kind"] == "neutral"]
pd.concat([pd.crosstab(plain["noun"], plain[f"rated_{a}"]) for a in base_settings.target], axis=1)

# %% [markdown]
# ## Look at it
#
# The first images of the first professions, of the first training seed (or the base model): not
# picked.

# %%
style.use_style()
nouns = list(dict.fromkeys(plain["noun"]))[:4]
count = int(min(8, plain.groupby(["seed", "noun"]).size().min()))
folder = resolve(out) / arm
figure = sheets.sheet({noun: {arm: sheets.first_images(folder, noun, count)} for noun in nouns})

# %% [markdown]
# ## Try it
#
# 1. Add `base["judge"]["gender"] = "hog"` to the parameters. Why does the library refuse?
# 2. Read four pictures yourself, then `ratings.loc[ratings["noun"] == nouns[0]]`. Where do you and the
#    judge disagree, and what would that do to a share?
# 3. Set `intervention = "prompt_randomisation"` and `draw = {"attributes": ["gender"]}` and run again.
#    Which column of the answers moves, and which must not?

# %%
assert (resolve(out) / arm / "ratings.parquet").exists()
assert all((resolve(out) / arm / name).exists() for name in ("features.parquet", "about.json"))
