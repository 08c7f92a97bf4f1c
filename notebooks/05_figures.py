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
# Means over professions, then over training seeds, as the judges read the images. `headline.csv` also
# has the range over seeds.

# %%
headline = figures.headline(summaries)
write_table(resolve(out) / "headline.csv", headline)
print("judges:", ", ".join(f"{k} by {v}" for k, v in base_settings.judge.items()))
columns = "_gap_(seen|held_out|person)$|role|explicit|general|images|seeds"
headline.set_index("label").filter(regex=columns).T

# %% [markdown]
# ## Seen beside held out
#
# A dot is one training seed, the bar their mean. Dotted: what a perfectly even model scores on average
# with this many usable images. A mean clearly above it is a gap; one close to it is as even as this N
# can show.

# %%
floors = figures.gap_floors(table, base_settings.target)
figure = figures.gaps(table, labels, floors)
written = figures.save(figure, resolve(out), "gaps")

# %% [markdown]
# ## Who is drawn, profession by profession
#
# A dot is the share of usable images rated "woman". Professions are ordered by the first arm.

# %%
shown = [arm for arm in arms if arm in ("base", "unbalanced", "dft")]
figure = figures.profession_shares(table, labels, shown)
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
# picked. Left the first arm, right the last one, each by its first training seed.

# %%
seen = table[(table["split"] == "seen") & (table["seed"] == table["seed"].min())]
nouns = list(dict.fromkeys(seen.loc[seen["kind"] == "neutral", "noun"]))[:sheet_professions]
folders = {labels[arm]: resolve(ratings) / arm for arm in (arms[0], arms[-1])}
rows = {
    noun: {k: figures.first_images(f, noun, sheet_images) for k, f in folders.items()}
    for noun in nouns
}
written += figures.save(figures.sheet(rows), resolve(out), "sheet")

# %% [markdown]
# ## Try it
#
# 1. After `make repro`: `arms = ["base", "dft", "unbalanced"]`, `ratings = "evaluation"`,
#    `results = "results"` (the sheet shows the first and the last arm). Can you tell the control from
#    the base model?
# 2. Which profession moved least? Look it up in `world/results/drawings-*.png` and in
#    `world/results/rater_errors_by_name.csv`: is it the model or the rater?
# 3. `table.groupby(["arm", "split"])["gender:min_max_ratio"].mean()`: does the story change? Should it?

# %%
assert all(path.exists() for path in written)
assert (resolve(out) / "headline.csv").exists()
