"""Real pictures: labels true, weights as promised, colours changed, the same bytes twice."""

from __future__ import annotations

import json

import datasets
import numpy as np
import pandas as pd
import pytest

from dft_lib.image_sets import real
from dft_lib.raters.drawings.skin_colours import TONES
from dft_lib.raters.panel import Panel
from dft_lib.repro import places, shards, workspace
from dft_lib.repro.files import write_table
from dft_lib.stages.real import collect_real
from dft_lib.study import lexicon, prompts
from dft_lib.study.params import whole
from dft_lib.study.params.real import Real
from dft_lib.world import pictures, plant, recolour, render, settings

NOUNS = ["firefighter", "teacher"]


@pytest.fixture(scope="module")
def base():
    return whole.load_profile("smoke").base


@pytest.fixture(scope="module")
def grid():
    small = {"professions": 0, "images_per_cell": 4}
    settings = whole.load_profile("smoke").prompts.model_copy(update=small)
    table = prompts.training_grid(lexicon.load(), settings, ["gender", "skin_tone"])
    return table[table["noun"].isin([*NOUNS, "person", "dog", "rocket"])].reset_index(drop=True)


@pytest.fixture(scope="module")
def world():
    return pictures.World.load()


@pytest.fixture(scope="module")
def collect(base, grid, tmp_path_factory):
    """Return a function from settings to (folder, index)."""
    folder = tmp_path_factory.mktemp("real")
    write_table(folder / "training.parquet", grid)

    def run(name, **changes):
        chosen = {
            "prompts": str(folder), "source": str(settings.EMOJI), "images_per_profession": 80,
            "shard_size": 64, "out": str(folder / name),
        } | changes  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workspace, "SCRATCH", folder / "scratch")
            patch.setattr(places, "ROOT", folder)
            return folder / name, collect_real(base, Real.model_validate(chosen))

    return run


@pytest.fixture(scope="module")
def made(collect):
    return collect("images")


def of(index, name):
    return index[index["set"] == name]


def test_index_belongs_to_the_shards_and_pictures_are_what_they_are_called(made, base):
    folder, index = made
    drawn, records = shards.read_folder(folder / "shards")  # checks every sha256
    stored = pd.read_parquet(folder / shards.INDEX)
    assert stored["sha256"].equals(records["sha256"])
    assert len(stored) == len(index) == len(drawn)
    assert list(dict.fromkeys(stored["set"])) == list(real.SETS)
    assert (stored["verdict"] == "kept").all() and (stored["weight"] > 0).all()
    assert not stored.duplicated(["prompt_id", "replicate"]).any()
    assert json.loads((folder / "manifest.json").read_text())["screened_by"] == []
    loaded = datasets.load_dataset(str(folder), cache_dir=str(folder.parent / "cache"))["train"]
    assert loaded["sha256"][:] == stored["sha256"].tolist()
    people = stored["set"].isin(["art", "corpus"])
    rated = Panel(base.judge).rate(drawn[people.to_numpy()])
    for answer, label in (("skin_tone", "skin_tone"), ("gender", "gender"), ("role", "noun")):
        agree = (rated[answer].to_numpy() == stored.loc[people, label].to_numpy()).mean()
        assert agree > 0.9, answer


def test_the_same_bytes_twice(made, collect):
    again, _ = collect("again")
    names = sorted(p.relative_to(made[0]) for p in made[0].rglob("*") if p.is_file())
    assert len(names) > 5
    for name in names:
        assert (again / name).read_bytes() == (made[0] / name).read_bytes(), name


def test_captions_are_neutral_and_prompts_say_what_is_shown(made, grid):
    _, index = made
    neutral = grid[grid["set"] != "balanced"]
    for noun, rows in index.groupby("noun"):
        assert set(rows["caption"]) == set(neutral.loc[neutral["noun"] == noun, "caption"])
        counts = of(rows, "corpus")["caption"].value_counts()
        assert counts.empty or counts.max() - counts.min() <= 1
    for row in of(index, "randomised").itertuples():
        assert f"{row.skin_tone}-skinned {row.gender}" in row.prompt


def test_the_corpus_keeps_the_true_shares(world):
    truth = plant.truth(settings.load())
    rows = pictures.biased(world, NOUNS, 600, 1)
    assert not rows.equals(pictures.biased(world, NOUNS, 600, 2))  # another study, other pictures
    for noun in NOUNS:
        own = rows[rows["noun"] == noun]
        assert len(own) == 600
        women = truth.loc[noun, "woman"]
        bound = 4 * np.sqrt(women * (1 - women) / 600)
        assert abs((own["gender"] == "woman").mean() - women) < bound
        assert abs(women - 0.5) > bound  # the test can tell a skewed set from an even one
        for tone in TONES:
            share = truth.loc[noun, tone]
            found = (own["skin_tone"] == tone).mean()
            assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / 600)


def test_every_picture_of_the_corpus_weighs_alike(made):
    _, index = made
    assert of(index, "corpus").groupby("noun").size().eq(80).all()
    np.testing.assert_allclose(of(index, "corpus")["weight"], 1 / 80)


def test_oversampling_gives_each_cell_that_occurs_its_share(made, base):
    _, index = made
    before, after = of(index, "corpus"), of(index, "oversampled")
    assert before["sha256"].tolist() == after["sha256"].tolist()
    skewed = False
    for _, rows in after.groupby("noun"):
        weight = rows.groupby(["gender", "skin_tone"])["weight"].sum()
        np.testing.assert_allclose(weight, 1 / len(weight))  # the target is even over ten cells
        sizes = rows.groupby(["gender", "skin_tone"]).size()
        skewed |= sizes.max() > 5 * sizes.min()
    assert skewed
    counted = real.summary(index, base.target)["oversampled"]
    shown = after.drop_duplicates(["noun", "gender", "skin_tone"])
    empty = 30 - len(shown)
    assert counted["cells"] == 30 and counted["empty_cells"] == empty > 0
    assert counted["unreachable"] > 0


def test_weights_follow_another_target_and_nouns_count_once():
    cells = [("woman", "light"), ("man", "light"), ("man", "light"), ("man", "dark")]
    rows = [("corpus", "profession", n, *c) for n in ("a", "b") for c in cells]
    index = pd.DataFrame(rows, columns=["set", "kind", "noun", "gender", "skin_tone"])
    index = pd.concat([index, index.assign(set="oversampled")], ignore_index=True)
    index["verdict"] = "kept"
    target = {"gender": {"woman": 0.4, "man": 0.6}, "skin_tone": {"light": 0.5, "dark": 0.5}}
    weight = real.weigh(index, target)
    np.testing.assert_allclose(weight[:8], 0.25)
    np.testing.assert_allclose(weight[8:12], np.array([0.2, 0.15, 0.15, 0.3]) / 0.8)
    assert real.summary(index, target)["corpus"]["unreachable"] == pytest.approx(0.2)


def test_art_is_balanced_and_general_has_nobody(made, grid, base):
    folder, index = made
    drawn = of(index, "art").value_counts(["noun", "gender", "skin_tone"])
    asked = grid[grid["set"] == "balanced"].groupby(["noun", "gender", "skin_tone"])["images"]
    assert set(drawn.index) <= set(asked.sum().index)
    assert (drawn == asked.sum()[drawn.index]).all()
    things = of(index, "general")
    assert set(things["noun"]) == {"dog", "rocket"} and (things["kind"] == "general").all()
    assert len(things) == grid.loc[grid["set"] == "general", "images"].sum()
    assert (things[["gender", "skin_tone"]] == "").all(axis=None)
    rated = Panel(base.judge).rate(shards.pick(folder, things.index.to_numpy()))
    assert (rated["person"] == "no_person").all()
    assert (rated["role"].to_numpy() == things["noun"].to_numpy()).all()


def test_randomised_tones_are_even_and_can_be_seen(made, base):
    folder, index = made
    rows = of(index, "randomised")
    for _, part in rows.groupby(["noun", "gender"]):
        counts = part["skin_tone"].value_counts().reindex(list(TONES), fill_value=0)
        assert counts.max() - counts.min() <= 1
    before = of(index, "corpus")
    assert rows["gender"].tolist() == before["gender"].tolist()
    assert rows["original_skin_tone"].tolist() == before["skin_tone"].tolist()
    changed = (rows["skin_tone"] != rows["original_skin_tone"]).to_numpy()
    assert 0.5 < changed.mean() < 0.95
    drawn = shards.pick(folder, rows.index[changed].to_numpy())
    wanted, old = rows.loc[changed, "skin_tone"], rows.loc[changed, "original_skin_tone"]
    for raters in (base.judge, base.steer):
        seen = Panel(raters).rate(drawn)["skin_tone"].to_numpy()
        assert (seen == wanted).mean() > 0.8, raters["skin_tone"]
        assert (seen == old).mean() < 0.1


def test_recolouring_moves_colours_and_nothing_else(world):
    drawings = world.drawings
    row = world.cells.rows["firefighter", "man", "light", "adult"]["fluent"]
    place = render.Placement()
    plain = drawings.draw(row, place)
    assert (plain == render.render_many(drawings.table, np.array([row]))[0]).all()
    dark, green = drawings.draw(row, place, tone="dark"), drawings.draw(row, place, turn=0.4)
    skin, clothes = ((plain != other).any(-1) for other in (dark, green))
    assert skin.mean() > 0.05 and clothes.mean() > 0.1
    assert (skin & clothes).mean() < 0.03  # blended edges only
    background = (plain == 255).all(-1)
    assert not (background & (skin | clothes)).any()


def test_colour_arithmetic():
    assert recolour.shaded("#c86432", "#c86432", "#0a1400") == "#0a1400"
    assert recolour.shaded("#643219", "#c86432", "#643232") == "#321919"
    assert recolour.turned("#ff0000", 1 / 3) == "#00ff00"
    assert recolour.turned("#808080", 0.5) == "#808080"


def test_a_place_for_photographs_gives_an_empty_set(collect):
    folder, index = collect("none", source="photographs")
    assert len(index) == 0 == len(pd.read_parquet(folder / shards.INDEX))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["sets"] == [] and manifest["screened_by"] == []
    assert real.examples(folder, index, 3, 1)


def photographs(folder, **changes):
    cells = [(g, t) for g in ("man",) * 4 + ("woman",) for t in ("light", "light", "dark")]
    rows = [("firefighter", *cell, "profession") for cell in cells]
    rows += [("dog", "", "", "general"), ("zebra", "", "", "general")]
    table = pd.DataFrame(rows, columns=["noun", "gender", "skin_tone", "kind"]).assign(**changes)
    pixels = np.random.default_rng(0).integers(0, 256, (len(table), 8, 8, 3), np.uint8)
    shards.write(folder / "a.parquet", pixels[:9], table[:9])
    shards.write(folder / "b.parquet", pixels[9:], table[9:])
    return {shards.sha256_of(p): tuple(r) for p, r in zip(pixels, rows, strict=True)}


def test_photographs_keep_their_labels(collect, tmp_path):
    labels = photographs(tmp_path / "photos")
    folder, index = collect("photos", source=str(tmp_path / "photos"), images_per_profession=12)
    assert set(index["set"]) == {"corpus", "oversampled", "general"}
    assert len(of(index, "corpus")) == 12 and of(index, "general")["noun"].tolist() == ["dog"]
    for row in index.itertuples():
        assert labels[row.sha256] == (row.noun, row.gender, row.skin_tone, row.kind)
    weight = of(index, "oversampled").groupby(["gender", "skin_tone"])["weight"].sum()
    np.testing.assert_allclose(weight, 1 / len(weight))
    _, records = shards.read_folder(folder / "shards")
    assert records["sha256"].equals(index["sha256"])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"gender": "unclear"}, "labelled 'unclear'"),
        ({"kind": "person"}, "the training grid a 'profession': mend the column kind"),
        ({"noun": "zebra"}, "shows no profession"),
    ],
)
def test_bad_photographs_are_refused(collect, tmp_path, changes, sentence):
    photographs(tmp_path / "photos", **changes)
    with pytest.raises(ValueError, match=sentence):
        collect("bad", source=str(tmp_path / "photos"))


def test_missing_columns_and_sizes_are_refused(collect, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no Parquet files"):
        collect("bad", source=str(tmp_path))
    records = pd.DataFrame({"noun": ["dog"], "gender": "", "skin_tone": ""})
    shards.write(tmp_path / "a.parquet", np.zeros((1, 8, 8, 3), np.uint8), records)
    with pytest.raises(ValueError, match="has no column 'kind': add it"):
        collect("bad", source=str(tmp_path))
    photographs(tmp_path)
    small = records.assign(kind="general")
    shards.write(tmp_path / "c.parquet", np.zeros((1, 4, 4, 3), np.uint8), small)
    with pytest.raises(ValueError, match="several sizes"):
        collect("bad", source=str(tmp_path))
