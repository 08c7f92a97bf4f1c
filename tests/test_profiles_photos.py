"""The profiles for photographs, shrunk, through all notebooks on models of their kind."""

import json
import zlib

import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DiffusionPipeline

from dft_lib.figures.sheets import first_images
from dft_lib.image_sets import latents
from dft_lib.raters.photographs.colour_layout import ColourLayout
from dft_lib.repro import places, workspace
from dft_lib.repro.paths import NOTEBOOKS
from dft_lib.runner import notebook
from dft_lib.stages import evaluate, synthesis
from dft_lib.study import profiles
from dft_lib.study.params import whole
from tests.conftest import moved

TONES = ("light", "medium-light", "medium", "medium-dark", "dark")


class Guesses:
    """Stands for raters: pictures by random weights have no faces. Answers follow checksums."""

    def __init__(self, members, folder=None, others=(), groups=None):
        self.members = members

    def rate(self, pixels):
        sums = np.array([zlib.crc32(p.tobytes()) for p in pixels])
        answers = {
            "person": np.where(sums % 4 > 0, "person", "no_person"),
            "gender": np.where(sums // 4 % 2 > 0, "woman", "man"),
            "skin_tone": np.array(TONES)[sums // 8 % 5],
            "age": np.full(len(sums), "young adult"),
            # a skewed filter: flags a third of the women
            "unsafe": np.where((sums // 4 % 2 > 0) & (sums // 64 % 3 == 0), "unsafe", "safe"),
        }
        return pd.DataFrame({a: answers[a] for a in self.members})

    def features_of(self, name, pixels):
        assert name == "colour_layout"
        return ColourLayout().features_of(pixels)

    def about(self):
        return {}


def shrunk(profile, model, folder):
    """The profile's values, fewer and smaller; everything else as it is."""
    values = profiles.merged(profiles.find(profile))
    values["base"] |= {
        "model": str(model), "device": "cpu", "threads": 2,
        "num_inference_steps": 2, "compile_above": None, "training_seeds": [0],
    }  # fmt: skip
    values["synthesis"]["teacher"] = str(model)
    values["prompts"] |= {
        "professions": 1, "images_per_cell": 3, "person_images_per_cell": 3, "general_images": 1,
        "evaluation_images": 4, "explicit_images": 1, "evaluation_general_images": 1,
    }  # fmt: skip
    values["finetune"] |= {
        "steps": 2, "rank": 2, "train_batch_size": 4, "warmup_steps": 1, "checkpoint_every": 1,
        "learning_rate": 1e-2,
    }  # fmt: skip
    values["figures"] |= {"sheet_professions": 1, "sheet_images": 2}
    for group in ("synthesis", "real", "evaluate"):
        values[group]["shard_size"] = 64
    kept = [a for a in ("base", "fair_guidance", "dft", "dft_full_unet") if a in values["arms"]]
    values["arms"] = {name: values["arms"][name] for name in kept}
    for arm in values["arms"].values():
        arm["train"].pop("learning_rate", None)
    return moved(whole.Params.model_validate(values), folder)


def run(name, chosen, arm=None):
    """Run a notebook's cells in this process, its parameters replaced."""
    space = {}
    for cell in jupytext.read(NOTEBOOKS / f"{name}.py").cells:
        if "parameters" in cell.metadata.get("tags", []):
            space |= notebook.values_for(name, arm, chosen)
        elif cell.cell_type == "code":
            exec(compile(cell.source, name, "exec"), space)
    plt.close("all")
    return space


@pytest.mark.parametrize("profile", ["sd15", "sdxl"])
def test_all_notebooks(profile, shaped_model, tmp_path, monkeypatch):
    for module in (workspace, latents):
        monkeypatch.setattr(module, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(places, "ROOT", tmp_path)
    for module in (synthesis, evaluate):
        monkeypatch.setattr(module, "Panel", Guesses)
    torch.set_num_threads(2)
    folder = shaped_model(profile)
    chosen = shrunk(profile, folder, tmp_path)
    grid = run("01_prompts", chosen)["training"]
    assert {"ethnicity", "age"} <= set(grid) and grid["ethnicity"].nunique() > 20
    index = run("02_synthesis", chosen)["index"]
    assert (index["weight"] > 0).sum() > 10 and index["ethnicity"].nunique() > 20
    assert (index["scheduler"] == "dpmsolver++").all() and (index["guidance_scale"] > 1).all()
    flagged = index["rated_unsafe"] == "unsafe"
    assert flagged.any() and (index.loc[flagged, "verdict"] == "unsafe").all()
    assert not (index.loc[~flagged, "verdict"] == "unsafe").any()
    assert (index.loc[flagged, "weight"] == 0).all()
    audited = json.loads((tmp_path / "results" / "audit.json").read_text())["unbalanced"]["unsafe"]
    assert audited["gender"]["woman"]["unsafe"] > 0 == audited["gender"]["man"]["unsafe"]
    assert "open_nsfw" in json.loads((tmp_path / "synthetic/images/manifest.json").read_text())[
        "screened_by"]  # fmt: skip
    run("02b_real", chosen)
    flagged_of = {}
    for arm in chosen.arms:
        run("03_finetune", chosen, arm)
        ratings = run("04_evaluate", chosen, arm)["ratings"]
        assert set(ratings["rated_age"]) == {"young adult"} and "rated_role" not in ratings
        unsafe = ratings["rated_unsafe"] == "unsafe"
        assert unsafe.any() and ratings.loc[unsafe, "rated_gender"].eq("woman").all()
        hidden = unsafe & (ratings["kind"] == "neutral") & (ratings["seed"] < 1)
        for noun, mine in ratings[hidden].groupby("noun"):
            seen = first_images(tmp_path / "evaluation" / arm, noun, 4)
            assert [bool((p == 255).all()) for p in seen] == [
                i in set(mine["replicate"]) for i in range(4)]  # fmt: skip
        flagged_of[arm] = int(unsafe.sum())
    table = run("04b_measure", chosen)["measured"].table
    run("05_figures", chosen)
    for arm, flagged in flagged_of.items():
        told = json.loads((tmp_path / "results" / f"{arm}.json").read_text())
        assert told["answers"]["unsafe"] == flagged and "unsafe" not in told["judges"]
    assert list(table["arm"]) == list(chosen.arms)
    for figure in ("gaps", "corrected", "pareto", "shares_gender", "shares_skin_tone", "sheet"):
        assert (tmp_path / "paper" / "figures" / f"{figure}.png").exists()
    stock = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    before = {k: v.clone() for k, v in stock.unet.state_dict().items()}
    stock.load_lora_weights(tmp_path / "models" / "dft" / "seed-0")
    stock.fuse_lora()
    changed = [k for k, v in stock.unet.state_dict().items() if k.replace("base_layer.", "") in
               before and not torch.equal(v, before[k.replace("base_layer.", "")])]  # fmt: skip
    assert changed and all("attn" in k for k in changed)
