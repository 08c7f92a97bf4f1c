# ---
# jupyter:
#   language_info:
#     name: python
# ---

# %% [markdown]
# # 03 Fine-tune: one arm, every training seed
#
# **Question.** What does a model learn from the synthetic set under this arm's treatment?
#
# | | |
# |---|---|
# | in | a set of pictures (of notebook 02 or 02b); the base model |
# | out | per seed `pytorch_lora_weights.safetensors` (stock `load_lora_weights` reads it), `losses.csv`, manifests |
# | minutes | about 1 per seed in the study, 0.2 on smoke values |
#
# In diversity fine-tuning the loss is the ordinary denoising loss: nothing in it knows about fairness.
# What differs is the *data*: which images (balanced or not) under which captions (with the
# attributes, or without). Where the caption drops the attributes, the plain prompt "a firefighter" is
# trained to mean all of them. Other mitigations are other *recipes*:
#
# | recipe | what it does |
# |---|---|
# | `none` | nothing: the base model as it is |
# | `denoising` | fine-tunes on the arm's pictures: DFT, its variants and controls, oversampling |
# | `iterated` | DFT in rounds: measure, synthesise what is missing, go on |
# | `concept_editing` | changes keys and values of the attention to the text, in closed form |
# | `alignment` | lets the model draw, assigns groups to its images, and trains towards them |
# | `adversarial` | a second network must not tell the group; batches must meet the target |

# %%
import pandas as pd
from IPython.display import display

from dft_lib.figures import losses, sheets, style
from dft_lib.image_sets import examples
from dft_lib.models import adapters
from dft_lib.repro import shards
from dft_lib.repro.paths import resolve
from dft_lib.stages.finetune import train_arm
from dft_lib.study.arms import ArmTraining
from dft_lib.study.base import Base, smoke_base
from dft_lib.study.schema import gather
from dft_lib.study.training import Finetune
from dft_lib.training import job as recipes

# %% [markdown]
# ## Parameters
#
# An arm names a recipe (a module of `dft_lib.recipes`; `none`: the base model as it is) and the
# pictures it may use (`data`); its `train` changes any of the values below for that arm alone, and
# sets what only its recipe knows. The synthetic set is a small fixture in git.

# %% tags=["parameters"]
base = smoke_base()
arm = "dft"
recipe = "denoising"
data = "notebooks/fixtures/synthetic"
train = {}
images = "balanced"
data_share = 1.0
target = None
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
min_snr_gamma = None
gradient_checkpointing = False
checkpoint_every = 10
processes = 1
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
# | `images`, `data_share` | which set of the arm's data, and how much of every cell |
# | `captions` | attributes in the captions `dropped`, `kept`, `mixed`; `shuffled`: another profession's caption |
# | `target` | shares to train towards, if not the study's |
# | `method` | `lora`, or `full`: every weight of the U-Net |
# | `text_encoder_lora` | LoRA on the text encoder's attention too |
# | `preservation_share`, `person_share` | part of each batch that shows things, and people without a profession |
# | `caption_dropout` | share of empty captions (guidance needs them) |
# | `caption_mixup` | share of captions blended with another of the batch; 0: off |
# | `lowest_timestep` | train on this noise level and above only (0-999) |
# | `min_snr_gamma` | weight of easy noise levels kept down (Hang et al. 2023); `None`: all weigh 1 |
# | `gradient_checkpointing` | compute activations twice instead of keeping them: memory for time |
# | `processes` | GPUs (or processes) that share every batch, started by `accelerate launch` |
#
# ## What this arm trains on
#
# The professions held out for a seed are not in its training set. The text is what the model reads
# in training; the prompt is what the image was drawn from.

# %%
base_settings = gather(Base, base)
settings = gather(Finetune, globals())
treatment = gather(ArmTraining, globals())
chosen = recipes.settings_of(treatment, settings)
if chosen is not None:
    index = examples.read_index(resolve(data), chosen.images)
    first_seed, named = base_settings.training_seeds[0], list(base_settings.target)
    rows = examples.select(index, chosen, first_seed, base_settings.held_out, named)
    display(rows.groupby("kind").head(2)[["kind", "prompt", "text", "weight"]])

# %% [markdown]
# The first pictures of the training set. Cover the prompts above: what does their text promise?

# %%
style.use_style()
if chosen is not None:
    first = shards.pick(resolve(data), rows["place"].iloc[:12])
    figure = sheets.sheet({rows["text"].iloc[0]: {"first training images": first}})

# %% [markdown]
# ## Train
#
# Latents and text embeddings are computed once. Every step's batch, timesteps and noise are keyed
# by study seed, training seed and step, so arms of one seed see the same draws, and a training that
# was killed ends in the same bytes as one that was not.

# %%
log = train_arm(base_settings, settings, arm, treatment)
fifth = log["step"] * 5 // settings.steps
log.groupby(["seed", fifth.rename("fifth")])["loss"].mean().unstack()

# %% [markdown]
# Mean loss per fifth of the training. In DFT it hardly falls, and that is right: the model could already
# draw these pictures. What moves is *which* picture the plain caption leads to, and the loss, an average
# over all noise levels, barely sees that. Only notebook 04 can tell. (Other recipes log other things
# too: `log.columns`. In concept editing a step is a round, and the loss is the distance from the
# target that the steering raters found.)

# %%
if len(log):
    figure = losses.losses(log)

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
assert manifest["seeds"] == (base_settings.training_seeds if chosen is not None else [])
assert len(pd.read_csv(resolve(out) / arm / "losses.csv")) == len(log)
