"""Shared fixtures: a random pipeline of the real classes, small enough for unit tests."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from dft_lib.image_sets import examples, latents
from dft_lib.models import pipelines
from dft_lib.recipes import adversarial, alignment, concept_editing, iterated
from dft_lib.repro import places, shards, workspace
from dft_lib.repro.files import write_json, write_table
from dft_lib.repro.paths import LEXICON
from dft_lib.sampling.sampler import SamplingSettings
from dft_lib.stages import evaluate as stage
from dft_lib.study import lexicon
from dft_lib.study.arms import Arm
from dft_lib.study.params import whole
from dft_lib.study.prompts import article
from dft_lib.training.job import Job, settings_of
from dft_lib.training.rollout import fit_classifier
from dft_lib.world import art, autoencoder, corpus, settings, tiny_sd


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an untrained pipeline, small but of the stock classes."""
    chosen = settings.load()
    small = chosen.model_copy(
        update={
            "tiny_sd": chosen.tiny_sd.model_copy(
                update={"block_out_channels": (32, 32), "text_width": 32}
            ),
            "autoencoder": chosen.autoencoder.model_copy(
                update={"block_out_channels": (8, 8, 16, 16)}
            ),
        }
    )
    torch.manual_seed(0)
    tokenizer = tiny_sd.make_tokenizer(corpus.vocabulary(art.load()), small.tiny_sd.max_length)
    folder = tmp_path_factory.mktemp("model") / "random-sd"
    tiny_sd.assemble(
        autoencoder.make(small),
        tiny_sd.make_text_encoder(small.tiny_sd, tokenizer),
        tokenizer,
        tiny_sd.make_unet(small.tiny_sd, 4, 8),
        small.tiny_sd,
        folder,
    )
    return folder


@pytest.fixture
def sampling() -> SamplingSettings:
    return SamplingSettings(
        study_seed=1, batch_size=4, num_inference_steps=3, guidance_scale=1.0, scheduler="ddim"
    )


@pytest.fixture
def study() -> whole.Params:
    return whole.load_profile("smoke")


@pytest.fixture
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def records() -> pd.DataFrame:
    return pd.DataFrame({"prompt_id": list("abcde"), "replicate": range(5), "seed": 0.5})


@pytest.fixture
def killed_at(monkeypatch):
    """Return a context in which a training loop dies right after its checkpoint of `step`.

    `module` is the one that calls ``save_training_state``.
    """

    class Killed(Exception):
        pass

    @contextmanager
    def context(module, step):
        save = module.save_training_state

        def save_and_die(path, at, *rest):
            save(path, at, *rest)
            if at == step:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(module, "save_training_state", save_and_die)
            with pytest.raises(Killed):
                yield

    return context


def shaped_pipeline(shape: str, prediction_type: str) -> Any:
    """Return an untrained pipeline with the structure of Stable Diffusion 1.5 or of XL.

    Stock classes, block types, tokenizers and schedulers as published; widths of a few numbers.
    """
    torch.manual_seed(1)
    tokenizer = tiny_sd.make_tokenizer(corpus.vocabulary(art.load()), 77)
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 77,
        "projection_dim": 32, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4, layers_per_block=1, norm_num_groups=4, sample_size=64,
        scaling_factor=0.13025 if shape == "sdxl" else 0.18215, force_upcast=shape == "sdxl",
    )  # fmt: skip
    unet: dict[str, Any] = {"sample_size": 8, "layers_per_block": 1, "norm_num_groups": 8}
    # keys of the published configurations that another scheduler reads, clip_sample among them
    noise = tiny_sd.BETAS | {
        "skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1,
        "clip_sample": False, "prediction_type": prediction_type,
    }  # fmt: skip
    if shape == "sd15":
        return StableDiffusionPipeline(
            vae, CLIPTextModel(CLIPTextConfig(**text)), tokenizer,
            UNet2DConditionModel(
                **unet, cross_attention_dim=32, attention_head_dim=8,
                block_out_channels=(16, 16, 32, 32),
                down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
                up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            ),
            PNDMScheduler.from_config(noise), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    other = CLIPTokenizer(
        vocab=tokenizer.get_vocab(), merges=_merges(tokenizer), model_max_length=77, pad_token="!"
    )
    second = text | {"hidden_size": 48, "projection_dim": 40, "hidden_act": "gelu"}
    second["pad_token_id"] = other.pad_token_id
    return StableDiffusionXLPipeline(
        vae, CLIPTextModel(CLIPTextConfig(**text)),
        CLIPTextModelWithProjection(CLIPTextConfig(**second)), tokenizer, other,
        UNet2DConditionModel(
            **unet, cross_attention_dim=32 + 48, attention_head_dim=(2, 4, 4),
            block_out_channels=(16, 32, 32), transformer_layers_per_block=(1, 1, 2),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            use_linear_projection=True, addition_embed_type="text_time",
            addition_time_embed_dim=8, projection_class_embeddings_input_dim=40 + 6 * 8,
        ),
        EulerDiscreteScheduler.from_config(noise), force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )  # fmt: skip


def _merges(tokenizer: CLIPTokenizer) -> list[tuple[str, str]]:
    return [tuple(m) for m in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]


@pytest.fixture(scope="session")
def shaped_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Return a function from shape and prediction type to the folder of an untrained pipeline."""

    @cache
    def make(shape: str, prediction_type: str = "epsilon") -> Path:
        folder = tmp_path_factory.mktemp("model") / f"{shape}-{prediction_type}"
        shaped_pipeline(shape, prediction_type).save_pretrained(folder)
        return folder

    return make


TARGET = {"gender": {"woman": 0.5, "man": 0.5}, "skin_tone": {"light": 0.5, "dark": 0.5}}
CELL = ("woman", "dark")
NOUNS = [("profession", "artist", "0"), ("profession", "guard", "1"), ("person", "person", "")]


def training_rows() -> pd.DataFrame:
    """Return the index of a small synthetic set: two pictures per cell, everything kept."""
    rows: list[dict[str, Any]] = []

    def add(group: str, kind: str, noun: str, fold: str, text: str, images: int, **cell: str):
        gender, tone = cell.get("gender", ""), cell.get("skin_tone", "")
        for i in range(images):
            rows.append(
                {
                    "prompt_id": f"train/{group}/{noun}/{gender}/{tone}", "prompt": text,
                    "caption": article(noun), "set": group, "kind": kind, "noun": noun,
                    "fold": fold, "gender": gender, "skin_tone": tone, "replicate": i,
                    "drawn_prompt": text, "rated_person": "person", "rated_role": noun,
                    "rated_gender": gender or ("man" if i % 4 else "woman"),
                    "rated_skin_tone": tone or ("light" if i % 3 else "dark"),
                    "verdict": "kept",
                }
            )  # fmt: skip

    for kind, noun, fold in NOUNS:
        for g, t in product(*TARGET.values()):
            text = article(f"{t}-skinned {g} {noun}")
            add("balanced", kind, noun, fold, text, 2, gender=g, skin_tone=t)
        add("unbalanced", kind, noun, fold, article(noun), 8)
    for noun in ("dog", "cat"):
        add("general", "general", noun, "", article(noun), 2)
    table = pd.DataFrame(rows)
    table["weight"] = 1 / table.groupby(["set", "noun"])["noun"].transform("size")
    return table


def painted(rows: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """Return noisy pictures whose colour is the group: red or blue, bright or dim."""
    noise = np.random.default_rng(seed).integers(0, 60, (len(rows), 64, 64, 3))
    for i, row in enumerate(rows.itertuples()):
        channel = {"woman": 0, "man": 2}.get(row.rated_gender, 1)
        noise[i, :, :, channel] += 180 if row.rated_skin_tone == "light" else 60
    return noise.astype(np.uint8)


class HashPanel:
    """Stands for a panel: answers follow a checksum of the pixels, so any change shows.

    Four of five people are men and light; features are mean colours.
    """

    def __init__(
        self, members: dict[str, str], folder: Path | None = None, others=(), groups=None
    ) -> None:
        self.members = dict(members)

    def rate(self, pixels: np.ndarray) -> pd.DataFrame:
        sums = [zlib.crc32(p.tobytes()) for p in pixels]
        return pd.DataFrame(
            {
                "person": ["person"] * len(sums), "role": ["artist"] * len(sums),
                "gender": ["woman" if s % 5 == 0 else "man" for s in sums],
                "skin_tone": ["dark" if s // 5 % 5 == 0 else "light" for s in sums],
            }
        )  # fmt: skip

    def features_of(self, name: str, pixels: np.ndarray) -> np.ndarray:
        return pixels.mean((1, 2)).astype(np.float32)

    def about(self) -> dict[str, Any]:
        return {}


def every_other(records: pd.DataFrame, ratings: pd.DataFrame, attributes) -> pd.Series:
    """Stands for screening: keeps the first of two pictures."""
    verdicts = ["kept" if i % 2 == 0 else "wrong subject" for i in range(len(records))]
    return pd.Series(verdicts, index=records.index)


@pytest.fixture(autouse=True)
def threads_as_before():
    """Give back the number of threads: it is part of the numerics, and tests compare bits."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


PLACES = {
    "prompts": ["out"], "synthesis": ["prompts", "out", "audit_file"], "real": ["prompts", "out"],
    "finetune": ["out"], "evaluate": ["prompts", "models", "out"],
    "measure": ["ratings", "results"], "figures": ["ratings", "results", "out"],
}  # fmt: skip


def moved(chosen: whole.Params, folder: Path) -> whole.Params:
    """Return a study that works in `folder`; params of the study itself never leave the root."""
    changes: dict[str, Any] = {
        group: getattr(chosen, group).model_copy(
            update={name: str(folder / getattr(getattr(chosen, group), name)) for name in names}
        )
        for group, names in PLACES.items()
    }
    arms = {n: a.model_copy(update={"data": str(folder / a.data)}) for n, a in chosen.arms.items()}
    return chosen.model_copy(update=changes | {"arms": arms})


def _two_tones(folder: Path) -> Path:
    """Write the default lexicon with the groups of `TARGET` only."""
    shutil.copytree(LEXICON, folder, dirs_exist_ok=True)
    groups = pd.read_csv(folder / "groups.csv", dtype=str, keep_default_na=False)
    wanted = [group for shares in TARGET.values() for group in shares]
    groups[groups["group"].isin(wanted)].to_csv(folder / "groups.csv", index=False)
    return folder


class SmallStudy:
    """A study of a few pictures and steps on one untrained model, in a folder of its own."""

    def __init__(self, study: whole.Params, model: Path, folder: Path, rows: pd.DataFrame):
        self.folder, self.data = folder, folder / "set"
        pictures = painted(rows)
        shards.write(self.data / "shards" / "shard-00000.parquet", pictures, rows)
        _, records = shards.read(self.data / "shards" / "shard-00000.parquet")
        records.to_parquet(self.data / shards.INDEX)
        write_json(self.data / "manifest.json", {"screened_by": ["histogram", "hog"]})
        self.base = study.base.model_copy(
            update={
                "model": str(model), "device": "cpu", "dtype": "float32", "batch_size": 8,
                "num_inference_steps": 2, "target": TARGET,
                "lexicon_folder": str(_two_tones(folder / "lexicon")),
            }
        )  # fmt: skip
        self.finetune = study.finetune.model_copy(
            update={
                "steps": 4, "train_batch_size": 4, "rank": 2, "warmup_steps": 1,
                "checkpoint_every": 2, "learning_rate": 1e-2, "out": str(folder / "models"),
                "preservation_share": 0.2, "person_share": 0.2,
            }
        )  # fmt: skip
        self.evaluate = study.evaluate.model_copy(
            update={
                "prompts": str(folder / "prompts"), "models": str(folder / "models"),
                "out": str(folder / "evaluation"), "shard_size": 8,
            }
        )  # fmt: skip
        grid = [
            ["n/artist", "an artist", "neutral", "artist", "0", "", "", 2],
            ["n/guard", "a guard", "neutral", "guard", "1", "", "", 2],
            ["n/person", "a person", "person", "person", "", "", "", 2],
            ["e/guard", "a dark-skinned woman guard", "explicit", "guard", "1", *CELL, 1],
            ["g/dog", "a dog", "general", "dog", "", "", "", 1],
        ]  # fmt: skip
        names = ["prompt_id", "prompt", "kind", "noun", "fold", "gender", "skin_tone", "images"]
        table = pd.DataFrame(grid, columns=names).assign(set="evaluation")
        table["caption"] = table["prompt"]
        write_table(folder / "prompts" / "evaluation.parquet", table)

    def arm(self, recipe: str = "none", train=None, intervention: str = "none", draw=None):
        return Arm(
            label="an arm", recipe=recipe, data=str(self.data), train=train or {},
            intervention=intervention, draw=draw or {},
        )  # fmt: skip

    def job(self, recipe: str, scratch: Path, *, seed: int = 0, unchecked=None, **train) -> Job:
        """Return a job; `unchecked` settings go past the recipe's own limits."""
        settings = settings_of(self.arm(recipe, train), self.finetune)
        settings = settings.model_copy(update=unchecked or {})
        fresh = partial(pipelines.load, self.base.model, device="cpu", dtype=self.base.dtype)
        index = examples.read_index(self.data, settings.images)
        pictures = np.concatenate(list(examples.pictures(self.data, index)))
        scratch.mkdir(parents=True, exist_ok=True)
        return Job(
            self.base, settings, "arm", seed, self.data, latents.encode(fresh(), pictures),
            index, scratch, self.finetune.checkpoint_every, fresh,
            lexicon.load(self.base.lexicon_folder).chosen(TARGET),
        )  # fmt: skip


@pytest.fixture
def small_study(study, tmp_path, monkeypatch) -> Callable[..., SmallStudy]:
    """Return a function from a model's folder to a small study, with panels that are stubs."""
    for module in (workspace, latents):
        monkeypatch.setattr(module, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(places, "ROOT", tmp_path)
    for module in (concept_editing, iterated, stage):
        monkeypatch.setattr(module, "Panel", HashPanel)
    monkeypatch.setattr(iterated.screening, "screen", every_other)
    for module in (alignment, adversarial):  # its accuracy is none of these tests' business
        monkeypatch.setattr(module, "fit_classifier", partial(fit_classifier, steps=5, batch=8))

    def make(model: Path, rows: pd.DataFrame | None = None) -> SmallStudy:
        torch.set_num_threads(2)
        mine = training_rows() if rows is None else rows
        return SmallStudy(study, model, tmp_path / "study", mine)

    return make


# The recipes with settings small enough for a test of a second or two.
STEERED = {"images_per_prompt": 4, "gradient_steps": 1}
RECIPES: dict[str, dict[str, Any]] = {
    "denoising": {"method": "lora", "text_encoder_lora": True},
    "iterated": {"rounds": 2, "measured_images": 4, "added_images": 4, "strength": 1.0},
    "concept_editing": {
        "regularisation": 0.5, "edit_scale": 1.0, "preserve_scale": 1.0, "step_size": 0.5,
        "rounds": 1, "images_per_concept": 64, "whole_tail": False,
    },
    "alignment": STEERED | {
        "captions": "kept", "transports": 10, "uncertainty": 0.3, "alignment_weight": 1.0,
        "image_weight": 1.0,
    },
    "adversarial": STEERED | {
        "images": "unbalanced", "adversary_weight": 0.1, "adversary_rate": 2.0,
        "adversary_from": 300, "moment_weight": 1.0,
    },
}  # fmt: skip


@pytest.fixture
def recipe_settings() -> dict[str, dict[str, Any]]:
    return {name: dict(values) for name, values in RECIPES.items()}
