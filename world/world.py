# %% [markdown]
# # The emoji world: a small world whose bias is known
#
# **Question.** Is the small model good enough to study, and is its bias the one that was put in?
#
# | | |
# |---|---|
# | in | `data/` (drawings, tiny-sd, raters), `world/emoji/bias.csv`, the tables of `world/results/` |
# | out | sheets and plots, `.png` and `.pdf` |
# | minutes | 1 (the tables themselves: `make world`, hours) |
#
# What a photograph shows has to be guessed by a rater, and what a large model was trained on nobody
# has counted. So the study's default world is drawn: its pictures are emoji of three families, what
# each one shows comes with the art, and the shares the model was trained on are a table that anybody
# can read and change. What it *should* draw is no fact here either: the target is a choice
# (`base.target`).

# %%
import json

import numpy as np
import pandas as pd
import seaborn as sns

from dft_lib.figures import sheets, style
from dft_lib.models import pipelines
from dft_lib.repro.paths import resolve
from dft_lib.sampling.sampler import Sampler, SamplingSettings
from dft_lib.study.base import Base, load_base
from dft_lib.study.kinds import KINDS
from dft_lib.study.prompts import Request
from dft_lib.study.schema import gather
from dft_lib.world import art, corpus, render, settings

# %% [markdown]
# ## Parameters
#
# Opened by hand, it writes to `scratch/`; `make world` writes to `world/build/report/`, whose files it
# copies to `world/results/` at the end.

# %% tags=["parameters"]
base = load_base().model_dump()
model = "data/tiny-sd"
results = "world/results"
out = "scratch/open/world"

# %% [markdown]
# ## The drawings
#
# One row per profession; per family a woman and a man in the lightest and the darkest tone. In the
# corpus, position, size, background and hair colour vary; hair is recoloured because in the art it
# goes with the skin tone.

# %%
style.use_style()
table = art.load()
cells = corpus.Cells(table, settings.load())
people = table[table["kind"].isin(KINDS) & table["gender"].isin(art.GENDERS)]
ends = people[people["skin_tone"].isin(["light", "dark"])]
order = ["name", "family", "gender", "skin_tone"]
rows = ends.sort_values(order, ascending=[True, True, False, False]).index.to_numpy()
drawn = render.render_many(table, rows).reshape(20, 12, 64, 64, 3)
names = sorted(people["name"].unique())
written = []
for half in (slice(0, 10), slice(10, 20)):
    sheet = {
        n: {"fluent, noto, twemoji": d} for n, d in zip(names[half], drawn[half], strict=True)
    }
    written += style.save(sheets.sheet(sheet), resolve(out), f"drawings-{half.start}")

# %% [markdown]
# ## Where woman and man look alike
#
# Some drawings hardly differ by gender. Pairs below the threshold (7 % of pixels) never enter the
# corpus: at this size the difference is too small to be read reliably. One profession (detective)
# disappears altogether.

# %%
differs = pd.read_csv(resolve(results) / "gender_differences.csv")
differs.pivot(index="profession", columns="family", values="differs").style.format("{:.3f}")

# %% [markdown]
# ## The truth
#
# Shares of women follow published labour statistics (`world/emoji/bias.csv`, with the source of every
# row), their odds amplified; skin tone is skewed light, differently per profession. The tone skew
# is our own choice, not a statistic.

# %%
truth = pd.read_csv(resolve(results) / "bias.csv", index_col="noun")
truth.style.format("{:.2f}")

# %% [markdown]
# ## What the model does with it
#
# Plain prompts beside the corpus: the model should reproduce the bias it was given, no more and no
# less.

# %%
plain = pd.read_csv(resolve(results) / "plain_prompts.csv")
axis = sns.scatterplot(plain, x="corpus_woman", y="model_woman", color="C0")
axis.plot([0, 1], [0, 1], color="black", lw=0.8, ls=":")
axis.set(xlabel="share of women, neutral captions of the corpus", ylabel="share rated woman")
axis.figure.set_size_inches(3.6, 3.4)
written += style.save(axis.figure, resolve(out), "plain-prompts")

# %%
summary = json.loads((resolve(results) / "summary.json").read_text(encoding="utf-8"))
{k: summary[k] for k in ("role", "explicit", "rare_combinations", "never_in_corpus")}

# %% [markdown]
# ## Samples
#
# First images of plain prompts, not picked; then of a rare combination.

# %%
pipeline = pipelines.load(model, device="cpu")
sampler = Sampler(pipeline, SamplingSettings.of(gather(Base, base)))
prompts = ["a firefighter", "a health worker", "a pilot", "a dark-skinned woman pilot", "a dog"]
sheet = {
    p: {"first images": np.concatenate([x for _, x in sampler.draw(
        [Request(f"sheet/{p}", p, i) for i in range(10)])])}
    for p in prompts
}  # fmt: skip
written += style.save(sheets.sheet(sheet), resolve(out), "samples")

# %% [markdown]
# ## Guidance
#
# Classifier-free guidance sharpens what the prompt says, and what it merely suggests.

# %%
guidance = pd.DataFrame(summary["guidance"]).T
guidance[["model_gap", "gender_correlation", "model_tones", "role_accuracy"]]

# %% [markdown]
# ## How far the raters can be trusted
#
# Errors on the autoencoder's reconstructions, and on OpenMoji, a style no rater was trained on. Read
# it as a limit: these raters hold for the three families they know and fail on another style. Nor are
# they equally good everywhere: `palette` reads the tone of some professions much worse than of others
# (`rater_errors_by_name.csv`), so gaps of those professions carry rater error.

# %%
errors = pd.read_csv(resolve(results) / "rater_errors_by_kind.csv")
shown = errors[(errors["kind"] == "profession") & ~errors["held_out"]]
shown.set_index(["attribute", "rater", "pictures"]).sort_index()

# %% [markdown]
# The same for drawings that no rater was trained on. They are few (26), so read the digits loosely.

# %%
errors[errors["held_out"]].set_index(["attribute", "rater", "pictures"]).sort_index()

# %% [markdown]
# ## Try it
#
# 1. Read `world/dvc.yaml`: if a share in `world/emoji/bias.csv` changes, which stages run again, and which
#    do not?
# 2. Find a profession whose gender the raters read badly. Look at its drawings. Would you do better?
# 3. Draw "a detective". The model never saw one: what does it do with the word?

# %%
assert all(path.exists() for path in written)
assert len(written) == 8
