"""Studies of other shapes than the default one, through all notebooks, by stand-in raters.

One attribute, three, ten groups: what differs is a lexicon, a target and raters. The model is
untrained and the real pictures are plain colours, so only the shape of what comes out is tested.
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from dft_lib.image_sets import latents
from dft_lib.raters import stand_in
from dft_lib.repro import places, shards, workspace
from dft_lib.repro.paths import LEXICON
from dft_lib.study import lexicon
from dft_lib.study.attributes import pairs
from dft_lib.study.params import whole
from tests.conftest import moved
from tests.test_profiles_photos import run

TEN = tuple(f"monk-{i}" for i in range(1, 11))
AGE = "age,perceived age,{},-4,yes,no,a test\n"
AGES = "".join(f"age,{group},{group},,a test\n" for group in ("young", "middle-aged", "old"))
STUDIES = {
    "gender": ("gender",),
    "tone": ("skin_tone",),
    "age": ("gender", "skin_tone", "age"),
    "ten_tones": ("skin_tone", "gender"),
}


def words_of(study, folder):
    """Write the study's lexicon: the default one, three professions, and what the study adds."""
    shutil.copytree(LEXICON, folder)
    professions = pd.read_csv(folder / "professions.csv", dtype=str)
    few = professions[professions["fold"] != "validation"].groupby("fold").head(1)
    few.to_csv(folder / "professions.csv", index=False)
    general = pd.read_csv(folder / "general.csv").head(1)
    general.to_csv(folder / "general.csv", index=False)
    attributes, groups = folder / "attributes.csv", folder / "groups.csv"
    if study == "age":
        attributes.write_text(attributes.read_text(encoding="utf-8") + AGE, encoding="utf-8")
        groups.write_text(groups.read_text(encoding="utf-8") + AGES, encoding="utf-8")
    table = pd.read_csv(groups, dtype=str, keep_default_na=False)
    if study == "ten_tones":
        ten = pd.DataFrame({"group": TEN, "word": [f"tone {i}" for i in range(1, 11)]})
        ten = ten.assign(attribute="skin_tone", colour="", source="a test")
        table = pd.concat([table[table["attribute"] == "gender"], ten])
    elif study in ("gender", "tone"):  # the other attribute is not even in the lexicon
        table = table[table["attribute"] == STUDIES[study][0]]
        known = pd.read_csv(attributes, dtype=str)
        known[known["attribute"] == STUDIES[study][0]].to_csv(attributes, index=False)
    elif study == "age":  # two tones, to be quick
        table = table[(table["attribute"] != "skin_tone") | table["group"].isin(["light", "dark"])]
    table.to_csv(groups, index=False)
    return lexicon.load(folder)


def study_of(study, model, folder):
    """The default study with another lexicon, target and raters; smaller, in its own folder."""
    words = words_of(study, folder / "lexicon")
    values = json.loads(whole.load().model_dump_json())
    named = STUDIES[study]
    groups = {a: words.attributes[a].groups for a in named}
    values["base"] |= {
        "model": str(model), "device": "cpu", "dtype": "float32",
        "num_inference_steps": 1, "batch_size": 16, "threads": 1,
        "lexicon_folder": str(folder / "lexicon"),
        "steer": dict.fromkeys(("person", *named), "stand_in_left"),
        "judge": dict.fromkeys(("person", *named), "stand_in_right"),
        "target": {a: {g: 1 / len(gs) for g in gs} for a, gs in groups.items()},
    }  # fmt: skip
    values["prompts"] |= {
        "professions": 1, "images_per_cell": 1, "person_images_per_cell": 1, "general_images": 1,
        "evaluation_images": 2, "explicit_images": 1, "evaluation_general_images": 1,
    }  # fmt: skip
    values["synthesis"]["minimum_per_cell"] = 0
    values["real"] |= {"source": str(folder / "plain"), "images_per_profession": 40}
    values["base"]["training_seeds"] = [0]
    values["finetune"] |= {
        "steps": 2, "rank": 2, "train_batch_size": 4, "warmup_steps": 1, "checkpoint_every": 2,
    }  # fmt: skip
    values["evaluate"]["features"] = "stand_in_right"
    values["measure"] |= {"minutes": "benchmarks/none/minutes.csv"}
    for group in ("synthesis", "real", "evaluate"):
        values[group]["shard_size"] = 64
    plain = {"label": "x", "recipe": "none", "data": "synthetic/images",
             "train": {}, "intervention": "none", "draw": {}}  # fmt: skip
    values["arms"] = {
        "base": plain | {"label": "base model", "shown": 1, "reference": True},
        "prompt_randomisation": plain
        | {
            "label": "randomised", "intervention": "prompt_randomisation",
            "draw": {"attributes": list(named)},
        },
        "dft": plain | {"label": "DFT", "recipe": "denoising", "family": "DFT", "shown": 2},
        "oversampling": plain
        | {"label": "oversampled", "recipe": "denoising", "data": "real/images",
           "train": {"images": "oversampled"}},
    }  # fmt: skip
    values["figures"] |= {"sheet_professions": 1, "sheet_images": 2}
    return moved(whole.Params.model_validate(values), folder), groups


def paint(grid, groups, folder, size=64):
    """Write plain pictures of every cell that the training grid asks for, and of the thing."""
    rows = grid[grid["set"].isin(["balanced", "general"])].drop_duplicates(["noun", *groups])
    pictures = [stand_in.plain(row, groups, size) for row in rows.to_dict("records")]
    labels = rows[["prompt_id", "kind", "noun", *groups]].assign(replicate=0)
    shards.write(folder / "shard-00000.parquet", np.stack(pictures), labels.reset_index(drop=True))
    return len(rows)


@pytest.mark.parametrize("study", STUDIES)
def test_all_notebooks(study, random_model, tmp_path, monkeypatch):
    for module in (workspace, latents):
        monkeypatch.setattr(module, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(places, "ROOT", tmp_path)
    torch.set_num_threads(1)
    chosen, groups = study_of(study, random_model, tmp_path)
    named, cells = STUDIES[study], int(np.prod([len(g) for g in groups.values()]))

    grid = run("01_prompts", chosen)["training"]
    balanced = grid[grid["set"] == "balanced"]
    asked = list(dict.fromkeys(balanced[list(named)].itertuples(index=False, name=None)))
    assert len(asked) == cells and balanced["images"].sum() == cells * 4
    assert list(grid.columns[7:-1])[: len(named)] == list(named)
    cell = dict(zip(named, asked[-1], strict=True))
    said = balanced[(balanced[list(named)] == list(asked[-1])).all(axis=1)]["prompt"].iloc[0]
    attributes = lexicon.load(chosen.base.lexicon_folder).attributes
    for attribute, group in cell.items():
        assert attributes[attribute].say(attributes[attribute].words[group]) in said

    index = run("02_synthesis", chosen)["index"]
    assert [c for c in index if c.startswith("drawn_") and c != "drawn_prompt"] == [
        f"drawn_{a}" for a in named
    ]
    kept = index[(index["set"] == "balanced") & (index["verdict"] == "kept")]
    assert len(kept) and all((kept[a] == kept[f"rated_{a}"]).all() for a in named)
    audited = json.loads((tmp_path / "results" / "audit.json").read_text(encoding="utf-8"))
    assert set(audited["balanced"]["total_variation"]) == set(named)

    number = paint(grid, groups, tmp_path / "plain")
    real = run("02b_real", chosen)
    assert (real["index"]["set"] == "corpus").sum() == number - 1  # and one thing
    summary = real["real"].summary(real["index"], chosen.base.target)
    assert summary["oversampled"]["empty_cells"] == 0
    for attribute, shares in chosen.base.target.items():
        part = real["table"]
        part = part[(part["set"] == "oversampled") & (part["attribute"] == attribute)]
        np.testing.assert_allclose(part["weighted"], list(shares.values()))

    for arm in chosen.arms:
        run("03_finetune", chosen, arm)
        ratings = run("04_evaluate", chosen, arm)["ratings"]
        for attribute, mine in groups.items():
            assert set(ratings[f"rated_{attribute}"]) <= {*mine, "no_person"}
    explicit = ratings[ratings["kind"] == "explicit"]
    assert len(explicit.drop_duplicates("prompt_id")) == cells * 4
    drawn = pd.read_parquet(tmp_path / "evaluation" / "prompt_randomisation" / "ratings.parquet")
    plain = drawn[drawn["kind"] == "neutral"]
    for attribute, mine in groups.items():
        assert set(plain[f"drawn_{attribute}"]) <= set(mine)

    found = run("04b_measure", chosen)["measured"]
    measured, table = found.metrics, found.table
    run("05_figures", chosen)
    panels = {*named, *pairs(named)}
    assert len(panels) == {1: 1, 2: 3, 3: 6}[len(named)]
    for arm in chosen.arms:
        for part in measured["arms"][arm]["neutral"].values():
            assert set(part) == panels
    assert list(table["arm"]) == list(chosen.arms)
    assert {f"explicit_{a}" for a in named} <= set(table)
    text = (tmp_path / "results" / "table.md").read_text(encoding="utf-8")
    assert "nan" not in text
    for attribute in named:
        assert f"explicit {attribute}".replace("_", " ") in text
        assert (tmp_path / "paper" / "figures" / f"shares_{attribute}.png").exists()
    for figure in ("gaps", "corrected", "pareto", "sheet"):
        assert (tmp_path / "paper" / "figures" / f"{figure}.png").exists()
