# %% [markdown]
# # 03 Fine-tune: one arm, every training seed
#
# **Question.** What does a model learn from the synthetic set under this arm's treatment?
#
# | | |
# |---|---|
# | in | the synthetic set of notebook 02; the base model |
# | out | per seed `pytorch_lora_weights.safetensors` (stock `load_lora_weights` reads it), `losses.csv`, manifests |
# | minutes | about 1 per seed in the study, 0.2 on smoke values |
#
# The loss is the ordinary denoising loss: nothing in it knows about fairness. What differs between
# arms is the *data*: which images (balanced or not) under which captions (with the attributes, or
# without). Where the caption drops the attributes, the plain prompt "a firefighter" is trained to
# mean all of them.

# %%
import pandas as pd
from IPython.display import display

from dft_lib import adapters, figures, finetune, params, stages
from dft_lib.paths import resolve

# %% [markdown]
# ## Parameters
#
# An arm's `train` changes any of the training values below for that arm alone; `train = None` is
# an arm without training (the base model). The synthetic set is a small fixture in git.

# %% tags=["parameters"]
base = params.smoke_base()
arm = "dft"
label = "DFT"
train = {}
images = "balanced"
captions = "dropped"
method = "lora"
rank = 4
lora_targets = ["to_q", "to_k", "to_v", "to_out.0"]
text_encoder_lora = False
learning_rate = 1e-3
steps = 20
train_batch_size = 8
warmup_steps = 5
max_grad_norm = 1.0
preservation_share = 0.1
person_share = 0.1
caption_dropout = 0.1
caption_mixup = 0.0
lowest_timestep = 0
training_seeds = [0]
synthetic = "notebooks/fixtures/synthetic"
checkpoint_every = 10
out = "scratch/open/models"

# %% [markdown]
# ## What is trained
#
# LoRA leaves the base model as it is and adds to some of its matrices a product of two thin ones,
# `W + B A`, `A` with `rank` rows and `B` with `rank` columns; only they learn. `lora_targets` names
# the matrices: queries, keys, values and output of the attention layers.
#
# | parameter | meaning |
# |---|---|
# | `images`, `captions` | which set; attributes in the captions `dropped`, `kept` or `mixed` |
# | `method` | `lora`, or `full`: every weight of the U-Net |
# | `text_encoder_lora` | LoRA on the text encoder's attention too |
# | `preservation_share`, `person_share` | part of each batch that shows things, and people without a profession |
# | `caption_dropout` | share of empty captions (guidance needs them) |
# | `caption_mixup` | share of captions blended with another of the batch; 0: off |
# | `lowest_timestep` | train on this noise level and above only (0-999) |
#
# ## What this arm trains on
#
# The professions held out for a seed are not in its training set. The text is what the model reads
# in training; the prompt is what the image was drawn from.

# %%
base_settings = params.gather(params.Base, base)
settings = params.gather(params.Finetune, globals())
treatment = params.Arm(label=label, train=train)
chosen = params.training(settings, treatment)
if chosen is not None:
    pictures, index = finetune.read_synthetic(resolve(synthetic), chosen.images)
    rows = finetune.select(index, chosen, training_seeds[0], base_settings.held_out)
    display(rows.groupby("kind").head(2)[["kind", "prompt", "text", "weight"]])

# %% [markdown]
# The first pictures of the training set. Cover the prompts above: what does their text promise?

# %%
figures.use_style()
if chosen is not None:
    first = pictures[rows.index[:12]]
    display(figures.sheet({rows["text"].iloc[0]: {"first training images": first}}))

# %% [markdown]
# ## Train
#
# Latents and text embeddings are computed once. Every step's batch, timesteps and noise are keyed
# by study seed, training seed and step, so arms of one seed see the same draws, and a training that
# was killed ends in the same bytes as one that was not.

# %%
losses = stages.train_arm(base_settings, settings, arm, treatment)
fifth = losses["step"] * 5 // settings.steps
losses.groupby(["seed", fifth.rename("fifth")])["loss"].mean().unstack()

# %% [markdown]
# Mean loss per fifth of the training. It hardly falls, and that is right: the model could already draw these pictures. What moves
# is *which* picture the plain caption leads to, and the loss, an average over all noise levels,
# barely sees that. Only notebook 04 can tell.

# %%
if len(losses):
    figures.losses(losses)

# %% [markdown]
# ## Load it anywhere
#
# ```python
# pipeline = StableDiffusionPipeline.from_pretrained(resolve("data/tiny-sd"))
# pipeline.load_lora_weights(resolve(out) / "dft" / "seed-0")
# ```
#
# is, with stock diffusers, the model that notebook 04 evaluates. (04 also merges the adapter into the
# weights, `pipeline.fuse_lora()`: drawing is an eighth faster, pictures are the same up to rounding.
# Stock calls use guidance 7.5 and 50 steps unless told otherwise; the study uses no guidance and 10.)
#
# ## Try it
#
# 1. Set `captions = "kept"` and `steps = 300`, run, then open notebook 04 with
#    `models = "scratch/open/models"`. Predict first: does the plain prompt change?
# 2. Set `learning_rate = 1e30`. What stops the training, and at which step? Why is a training that
#    stops better than one that ends here?
# 3. Halve `rank` twice. How large is the adapter file, and what part of the base model is that?

# %%
manifest = adapters.read_manifest(resolve(out) / arm)
assert manifest["seeds"] == (training_seeds if chosen is not None else [])
assert len(pd.read_csv(resolve(out) / arm / "losses.csv")) == len(losses)
