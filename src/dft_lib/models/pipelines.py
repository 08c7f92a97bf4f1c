"""Load and save diffusers pipelines; choose device and precision, and say why."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTokenizer
from transformers.utils import logging as transformers_logging

from dft_lib.models import sources
from dft_lib.repro.paths import show
from dft_lib.study.base import Base

PREDICTION_TYPES = ("epsilon", "v_prediction")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPU = torch.device("cpu")
_TOKENS = ("tokenizer", "tokenizer_2")
_said: set[str] = set()
diffusers_logging.set_verbosity_error()  # it warns of things that are no news, at every load
for quiet in (diffusers_logging, transformers_logging):
    quiet.disable_progress_bar()  # loading takes a second; the bars of real work stay readable


def choose_device(device: str = "auto", dtype: str = "auto") -> tuple[torch.device, torch.dtype]:
    """Choose device and precision, printing the choice and its reason once per process.

    Raises
    ------
    ValueError
        If CUDA is asked for and there is none: a study never falls back to a CPU silently.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("base.device is cuda, but PyTorch sees no CUDA device; use auto or cpu")
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else CPU
    why = "asked for" if device != "auto" else ("a GPU is there" if cuda else "no GPU is there")
    kind = _DTYPES[dtype] if dtype != "auto" else (torch.bfloat16 if cuda else torch.float32)
    line = f"device {where.type} ({why}), {str(kind).removeprefix('torch.')}"
    if line not in _said:
        _said.add(line)
        print(line)
    return where, kind


def start(threads: int, device: str, dtype: str) -> None:
    """Begin a verb: fix the number of CPU threads and say which device it will use.

    Threads are part of the numerics, not only of the speed. The device is said here, not only
    when a model is loaded, so that a resumed run, which may load none, prints the same.
    """
    torch.set_num_threads(threads)
    choose_device(device, dtype)


def tokenizers(model: str) -> list[Any]:
    """Load only the tokenizers of a pipeline, one per text encoder; no weights are read.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load`, or if a tokenizer is missing or damaged.
    """
    source = sources.find(model)
    try:
        there = DiffusionPipeline.load_config(source.name, **source.keywords)
        parts = [name for name in _TOKENS if there.get(name, [None])[0]]
        found = [
            CLIPTokenizer.from_pretrained(source.name, subfolder=part, **source.keywords)
            for part in parts
        ]
        if not found or min(map(len, found)) < 3:  # a start, an end and a word
            raise ValueError("no words in it")
        return found
    except Exception as error:  # whatever a damaged folder, or no network, makes the loaders raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"the tokenizers of {model} could not be loaded ({reason}): mend base.model"
        ) from error


def load(model: str, *, device: str = "auto", dtype: str = "auto") -> Any:
    """Load a pipeline from a folder, or from the model hub at a pinned revision.

    Parameters
    ----------
    model : str
        Path of a folder or of a ``hub/<name>.yaml``; see `dft_lib.models.sources`.
    device, dtype : str
        See `choose_device`.

    Returns
    -------
    diffusers.DiffusionPipeline
        On its device, without progress bar. Without safety checker too: it blackens pictures, and
        nobody counts whose. `dft_lib.image_sets.screening` rejects what the filter
        ``base.steer.unsafe`` flags, and the audit counts it by group.

    Raises
    ------
    FileNotFoundError
        If the path is missing, or the hub cannot be reached and holds no cached copy.
    ValueError
        If what it names is no pipeline that the study can take.
    """
    where, kind = choose_device(device, dtype)
    source = sources.find(model)
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            source.name, dtype=kind, use_safetensors=True, **source.keywords
        )
    except Exception as error:  # whatever a damaged or foreign folder makes the loaders raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if source.revision is not None:
            raise FileNotFoundError(
                f"hub model {source.name} could not be fetched ({reason}): connect to the network "
                "once, or point base.model to a local folder"
            ) from error
        raise ValueError(
            f"{show(source.name)} is damaged or of a wrong kind ({reason}): run "
            "`dvc checkout data.dvc`"
        ) from error
    if not hasattr(pipeline, "unet") or not hasattr(pipeline, "vae"):
        raise ValueError(
            f"{model} is a {type(pipeline).__name__}: the study needs a latent pipeline with a "
            "U-Net (Stable Diffusion 1.x, 2.x or XL)"
        )
    if (prediction := pipeline.scheduler.config.prediction_type) not in PREDICTION_TYPES:
        raise ValueError(
            f"{model} predicts {prediction!r}: the study trains {' and '.join(PREDICTION_TYPES)} "
            "models; choose one of those"
        )
    if kind == torch.float16 and pipeline.vae.config.get("force_upcast"):
        pipeline.vae.float()  # SDXL's decoder overflows in float16
    pipeline.set_progress_bar_config(disable=True)
    if getattr(pipeline, "safety_checker", None) is not None:
        pipeline.safety_checker = None
    return pipeline.to(where)


def opener(base: Base) -> Callable[[], Any]:
    """Return a function that loads the study's base model, from the parameter group ``base``."""
    return partial(_open, base)


def _open(base: Base) -> Any:
    pipeline = load(base.model, device=base.device, dtype=base.dtype)
    return tune(pipeline, channels_last=base.channels_last, compile_above=None, images=0)


def tune(pipeline: Any, *, channels_last: bool, compile_above: int | None, images: int) -> Any:
    """Make a pipeline that is about to draw many images faster; return it.

    Compiling takes a minute or two on a GPU and pays from some hundred images on. Both change
    pictures by rounding only, and neither changes which distribution is drawn from; methods that
    do (distilled few-step models, token merging, step caching) are not offered here.

    Parameters
    ----------
    pipeline : diffusers.DiffusionPipeline
        With its adapters merged.
    channels_last : bool
        Store the weights of convolutions with channels last: on GPUs that is what their
        half-precision kernels want; on CPUs it may cost time.
    compile_above : int or None
        Compile the U-Net and the decoder if more `images` than this will be drawn; None: never.
    images : int
        How many this process will draw. Every batch has the same size (the last one is padded),
        so one compilation serves them all.
    """
    parts = (pipeline.unet, pipeline.vae)
    if channels_last:
        for part in parts:
            part.to(memory_format=torch.channels_last)
    if compile_above is not None and images > compile_above:
        pipeline.unet.compile(dynamic=False)
        pipeline.vae.decoder.compile(dynamic=False)
    return pipeline
