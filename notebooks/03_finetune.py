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
    _, index = finetune.read_synthetic(resolve(synthetic))
    rows = finetune.select(index, chosen, training_seeds[0], base_settings.held_out)
    display(rows.groupby("kind").head(2)[["kind", "prompt", "text", "weight"]])

# %% [markdown]
# ## Train
#
# Latents and text embeddings are computed once. Every step's batch, timesteps and noise are keyed
# by study seed, training seed and step, so arms of one seed see the same draws, and a training that
# was killed ends in the same bytes as one that was not.

# %%
losses = stages.train_arm(base_settings, settings, arm, treatment)
losses.groupby("seed")["loss"].agg(["size", "first", "last"]) if len(
    losses
) else "nothing to train"

# %% [markdown]
# The loss hardly falls, and that is right: the model could already draw these pictures. What moves
# is *which* picture the plain caption leads to, and the loss, an average over all noise levels,
# barely sees that. Only notebook 04 can tell.

# %%
figures.use_style()
if len(losses):
    figures.losses(losses)

# %% [markdown]
# ## Load it anywhere
#
# `StableDiffusionPipeline.from_pretrained("data/tiny-sd").load_lora_weights("models/dft/seed-0")`
# gives, with stock diffusers, the model that notebook 04 evaluates.
#
# ## Try it
#
# 1. Set `captions = "kept"`. Predict what changes in the plain prompt's images, and why.
# 2. Set `learning_rate = 10.0`. What stops the training, and what is kept?
# 3. Halve `rank` twice. How large is the adapter file, and what part of the base model is that?

# %%
manifest = adapters.read_manifest(resolve(out) / arm)
assert manifest["seeds"] == (training_seeds if chosen is not None else [])
assert len(pd.read_csv(resolve(out) / arm / "losses.csv")) == len(losses)
