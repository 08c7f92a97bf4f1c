# %% [markdown]
# # 05 Figures: one table, and the pictures that go with it
#
# **Question.** Does diversity fine-tuning work, is it the balance that does it, and what does it cost?
#
# | | |
# |---|---|
# | in | `results/<arm>.csv` and `.json`, the arms' images, ratings and features; `benchmarks/minutes.csv` |
# | out | `results/metrics.json` (intervals, floors, tests), `results/table.csv` and `.md`, `paper/figures/*.pdf` and `.png`, `headline.csv` |
# | minutes | 0.1 per arm |
#
# Arms are taken from the parameters, never from whatever files happen to lie around. Language:
# groups are *perceived* by the judges; "gap" is a measured disparity of this model on these prompts.

# %%
import pandas as pd
from IPython.display import Markdown

from dft_lib.evaluation import comparison, results_table, side_effects
from dft_lib.evaluation.arm import read_arm
from dft_lib.evaluation.calibration import Calibration
from dft_lib.evaluation.headline import headline, read_results
from dft_lib.figures import gaps, pareto, shares, sheets, style
from dft_lib.repro.files import write_table, write_text
from dft_lib.repro.paths import resolve
from dft_lib.study import params

# %% [markdown]
# ## Parameters
#
# Fixtures in git: results of models that were trained for a few steps. The figures have the right
# shape and the wrong content; `make repro` makes the real ones.

# %% tags=["parameters"]
base = params.smoke_base()
arms = ["base", "dft"]
shown = ["base", "dft"]
families = {"DFT": ["dft"]}
dose = []
ratings = "notebooks/fixtures/evaluation"
results = "notebooks/fixtures/results"
metrics_file = "scratch/open/metrics.json"
minutes = "benchmarks/minutes.csv"
calibration = "world/results/rater_confusion.csv"
references = ["base"]
sheet_professions = 2
sheet_images = 4
out = "scratch/open/figures"

# %% [markdown]
# ## Read the arms
#
# In the order of the parameters; a missing arm stops here. Figures without room for all arms have those
# that are named under `shown`.

# %%
base_settings = params.gather(params.Base, base)
settings = params.gather(params.Figures, globals())
table, summaries = read_results(resolve(results), arms)
labels = {arm: summaries[arm]["label"] for arm in arms}
few = {arm: labels[arm] for arm in shown if arm in labels}
style.use_style()

# %% [markdown]
# ## In numbers
#
# Means over professions, then over training seeds, as the judges read the images. `headline.csv` also
# has the range over seeds.

# %%
condensed = headline(summaries)
write_table(resolve(out) / "headline.csv", condensed)
print("judges:", ", ".join(f"{k} by {v}" for k, v in base_settings.judge.items()))
columns = "_gap_(seen|held_out|person)$|role|explicit|general|images|seeds"
condensed.set_index("label").filter(regex=columns)

# %% [markdown]
# ## How to read a gap
#
# A coin that falls ten times rarely shows five heads. A *fair model*, one that draws every image from the
# target, has a gap above 0 for the same reason: below, what it scores at N images per prompt (bars: 95 %
# of simulated studies; mark: median). Grey is one prompt, blue the mean over ten.
#
# Averaging over prompts narrows the bar but does not bring it to 0: every prompt's gap is an absolute
# value. So a raw gap means nothing without the fair model's beside it, and a model that draws its images
# independently cannot be fairer than that, only luckier. The *corrected* gap takes most of this part out.

# %%
figure = gaps.fair_model()

# %% [markdown]
# ## Measure
#
# Every metric of every arm with its 95 % interval (professions and training seeds resampled) and the
# fair model's score; differences from the reference arms by a sign-flip test over professions,
# Holm-corrected over arms. `docs/measurement.md` says what is in the file.

# %%
read = {arm: read_arm(arm, summaries[arm], table, resolve(ratings)) for arm in arms}
space = summaries[arms[0]]["features"]
errors = Calibration.read(resolve(calibration), base_settings.judge)
measured = comparison.compare(
    read, base_settings.target, space, references=references, calibration=errors
)
comparison.write(resolve(metrics_file), measured)

# %% [markdown]
# ## The results in one table
#
# An arm per row: outcomes with intervals and tests, then what one model costs. Seconds are those of the
# machine named below it, not of this run. `table.csv` has every column: differences from all reference
# arms, p values, floors. An arm that aims at another target than the study's is measured against the
# study's all the same: read its gap knowing that.

# %%
timed = results_table.read_minutes(resolve(minutes))
results_of_arms = results_table.results_table(measured, summaries, timed)
text = results_table.as_markdown(results_of_arms, timed)
tables = [resolve(metrics_file).with_name(name) for name in ("table.csv", "table.md")]
write_table(tables[0], results_of_arms)
write_text(tables[1], text)
Markdown(text)

# %% [markdown]
# ## Fairness against side effects
#
# Lower left is better: a small gap, and explicit prompts ("a woman firefighter") followed as before.
# The dashed line joins the arms that no other beats on both. It goes through point estimates and knows
# nothing of the intervals (thin lines): two arms whose whiskers cross may well change places. And it knows
# one side effect of several; the table has the others, and the cost.

# %%
figure = pareto.pareto(measured, labels, families)
written = style.save(figure, resolve(out), "pareto")

# %% [markdown]
# ## How many pictures?
#
# The gap against the number of training pictures, for arms that differ in nothing else: all train for as
# many steps, so fewer pictures are seen more often. Only where the parameters name such arms (`dose`).

# %%
figure = gaps.dose(measured, summaries, dose)
written += style.save(figure, resolve(out), "dose") if figure else []

# %% [markdown]
# ## Seen beside held out
#
# Bars are means over professions and seeds, lines their 95 % intervals, a dot is one training seed.
# Hatched: the middle 95 % of fair models with this many usable images. An interval does not know that
# floor: near it, ask whether the bar ends in the hatched band, not whether the line reaches 0.

# %%
figure = gaps.gaps(measured, table, few)
written += style.save(figure, resolve(out), "gaps")

# %% [markdown]
# ## With the floor taken out
#
# The root of the mean unbiased *squared* gap. The mean square of a fair model is 0 on average, its root a
# little more (hatched). As a root mean square it lies above the mean gap where professions differ, so
# compare it between arms only. The third panel
# counts cells, gender x skin tone: even margins can hide uneven cells. All arms, in the colour of their
# family.

# %%
figure = gaps.corrected(measured, labels, families)
written += style.save(figure, resolve(out), "corrected")

# %% [markdown]
# Differences of the raw gap with interval and with each training seed's own, and the tests (of the
# squared gap, so that unequal numbers of usable images do not matter). `p` generalises over professions
# *for these trained models*: about another training run only the seeds can say something, so look
# whether they agree. With few professions even the smallest possible p is large, and "not significant"
# then says nothing.

# Below: the arms of `shown`; all are in `table.csv` and `metrics.json`.

# %%
tests = pd.DataFrame(comparison.tests_table(measured))
tests[tests["arm"].isin(few)]

# %% [markdown]
# ## What else changed
#
# Explicit prompts followed, pictures without people, how evenly well professions are drawn for either
# perceived gender, how different the images of one group are from each other, and how far images of
# explicit and general prompts moved from the base model's (in the named feature space; not FID).

# %%
print("features:", measured["feature_space"])
pd.DataFrame(side_effects.table_of(measured)).T

# %% [markdown]
# ## Who is drawn, profession by profession
#
# A dot is the share of usable images rated "woman". Professions are ordered by the first arm.

# %%
figure = shares.profession_shares(table, few)
written += style.save(figure, resolve(out), "professions")

# %% [markdown]
# ## Perceived skin tone
#
# Bars run from light to dark; dotted lines are where an even distribution would change colour.

# %%
tones = list(base_settings.target["skin_tone"])
figure = shares.tone_distributions(table, labels, tones)
written += style.save(figure, resolve(out), "tones")

# %% [markdown]
# ## The pictures themselves
#
# The first images of each profession's plain prompt, from the same noise in both columns: not
# picked. Left the first arm of `shown`, right the last one, each by its first training seed.

# %%
seen = table[(table["split"] == "seen") & (table["seed"] == table["seed"].min())]
nouns = list(dict.fromkeys(seen.loc[seen["kind"] == "neutral", "noun"]))[:sheet_professions]
folders = {labels[arm]: resolve(ratings) / arm for arm in (list(few)[0], list(few)[-1])}
rows = {
    noun: {k: sheets.first_images(f, noun, sheet_images) for k, f in folders.items()}
    for noun in nouns
}
written += style.save(sheets.sheet(rows), resolve(out), "sheet")

# %% [markdown]
# ## Try it
#
# 1. After `make repro`: `arms = shown = ["base", "dft", "unbalanced"]`, `ratings = "evaluation"`,
#    `results = "results"` (the sheet shows the first and the last arm). Can you tell the control from
#    the base model?
# 2. Which profession moved least? Look it up in `world/results/drawings-*.png` and in
#    `world/results/rater_errors_by_name.csv`: is it the model or the rater?
# 3. `table.groupby(["arm", "split"])["gender:min_max_ratio"].mean()`: does the story change? Should it?

# %%
assert all(path.exists() for path in written)
assert all(path.exists() for path in [resolve(metrics_file), *tables])
assert (resolve(out) / "headline.csv").exists()
