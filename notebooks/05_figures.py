# %% [markdown]
# # 05 Figures: the study in four pictures
#
# **Question.** Does diversity fine-tuning work, is it the balance that does it, and what does it cost?
#
# | | |
# |---|---|
# | in | `results/<arm>.csv` and `.json`, the arms' images |
# | out | `paper/figures/*.pdf` and `.png`, `headline.csv` |
# | minutes | 0.2 |
#
# Arms are taken from the parameters, never from whatever files happen to lie around. Language:
# groups are *perceived* by the judges; "gap" is a measured disparity of this model on these prompts.

# %%
import numpy as np

from dft_lib import figures, params
from dft_lib.files import write_table
from dft_lib.paths import resolve

# %% [markdown]
# ## Parameters
#
# Fixtures in git: results of models that were trained for a few steps. The figures have the right
# shape and the wrong content; `make repro` makes the real ones.

# %% tags=["parameters"]
base = params.smoke_base()
arms = ["base", "dft"]
ratings = "notebooks/fixtures/evaluation"
results = "notebooks/fixtures/results"
sheet_professions = 2
sheet_images = 4
out = "scratch/open/figures"

# %% [markdown]
# ## Read the arms
#
# In the order of the parameters; a missing arm stops here.

# %%
base_settings = params.gather(params.Base, base)
settings = params.gather(params.Figures, globals())
table, summaries = figures.read_results(resolve(results), arms)
labels = {arm: summaries[arm]["label"] for arm in arms}
figures.use_style()

# %% [markdown]
# ## In numbers
#
# Means over professions, then over training seeds. The range over seeds stands beside each gap.

# %%
headline = figures.headline(summaries)
write_table(resolve(out) / "headline.csv", headline)
headline.set_index("label").filter(regex="_gap_(seen|held_out|person)$|role|explicit|general").T

# %% [markdown]
# ## Seen beside held out
#
# The dotted line is what a perfectly even model would score for gender with this many images: no
# arm can be expected to lie below it.

# %%
counts = table[table["kind"] == "neutral"]
usable = (counts["gender:woman"] + counts["gender:man"]).mean()
floor = float(np.sqrt(2 / (np.pi * usable)))
figure = figures.gaps(table, labels, floor)
written = figures.save(figure, resolve(out), "gaps")

# %% [markdown]
# ## Who is drawn, profession by profession
#
# A dot is the share of usable images rated "woman". Professions are ordered by the first arm.

# %%
shown = {arm: labels[arm] for arm in arms if arm in ("base", "unbalanced", "dft")}
figure = figures.profession_shares(table, shown)
written += figures.save(figure, resolve(out), "professions")

# %% [markdown]
# ## Perceived skin tone
#
# Bars run from light to dark; dotted lines are where an even distribution would change colour.

# %%
tones = list(base_settings.target["skin_tone"])
figure = figures.tone_distributions(table, labels, tones)
written += figures.save(figure, resolve(out), "tones")

# %% [markdown]
# ## The pictures themselves
#
# The first images of each profession's plain prompt, from the same noise in both columns: not
# picked. Left the base model, right the last arm, seed 0.

# %%
neutral = table[(table["kind"] == "neutral") & (table["split"] == "seen") & (table["seed"] == 0)]
nouns = list(dict.fromkeys(neutral["noun"]))[:sheet_professions]
folders = {labels[arms[0]]: resolve(ratings) / arms[0] / "base"}
folders[labels[arms[-1]]] = resolve(ratings) / arms[-1] / "seed-0"
rows = {
    noun: {k: figures.first_images(f, noun, sheet_images) for k, f in folders.items()}
    for noun in nouns
}
written += figures.save(figures.sheet(rows), resolve(out), "sheet")

# %% [markdown]
# ## Try it
#
# 1. Put `unbalanced` in place of `dft` in the sheet. Can you tell it from the base model?
# 2. Which profession moved least? Look at its drawings in `data/` and at the raters' errors.
# 3. Draw the gap figure with `min_max_ratio` instead. Does the story change? Should it?

# %%
assert all(path.exists() for path in written)
assert (resolve(out) / "headline.csv").exists()
