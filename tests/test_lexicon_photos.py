"""The word lists for photographs, and the grids that are made of them."""

import os
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256

import pandas as pd
import pytest

from dft_lib.repro.files import write_table
from dft_lib.repro.paths import ROOT
from dft_lib.study import lexicon, prompts
from dft_lib.study.attributes import describe
from dft_lib.study.params import whole

FOLDER = ROOT / "lexicon_photos"
PROFILES = ("sd15", "sdxl")
BOTH = ["gender", "skin_tone"]
CELL = ["noun", *BOTH]
SUBREGIONS = {  # UN M49
    "Africa": ["Eastern Africa", "Middle Africa", "Northern Africa", "Southern Africa",
               "Western Africa"],
    "Asia": ["Central Asia", "Eastern Asia", "South-eastern Asia", "Southern Asia",
             "Western Asia"],
    "Europe": ["Eastern Europe", "Northern Europe", "Southern Europe", "Western Europe"],
    "Latin America and the Caribbean": ["Caribbean", "Central America", "South America"],
    "Northern America": ["Northern America"],
    "Oceania": ["Australia and New Zealand", "Melanesia", "Micronesia", "Polynesia"],
}  # fmt: skip


def table(name):
    return pd.read_csv(FOLDER / f"{name}.csv", dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def words():
    return lexicon.load(FOLDER)


def drawing(images):
    """Return the settings of a profile with so many images per cell."""
    chosen = whole.load_profile("sd15").prompts
    sizes = {"images_per_cell": images, "person_images_per_cell": images, "general_images": 20}
    return chosen.model_copy(update=sizes)


@pytest.fixture(scope="module")
def grid(words):
    return prompts.training_grid(words, drawing(20), BOTH)


@pytest.fixture(scope="module")
def balanced(grid):
    return grid[grid["set"] == "balanced"]


# -- the lists


def test_the_lists_have_the_size_of_the_papers(words):
    assert len(words.professions) == 170
    assert len(words.people) == 3
    assert len(words.general) == 100
    sizes = {axis: len(about.groups) for axis, about in words.attributes.items()}
    assert sizes == {"gender": 2, "skin_tone": 5, "ethnicity": 57, "age": 5}


@pytest.mark.parametrize("profile", PROFILES)
def test_the_params_name_the_listed_templates_and_groups(profile, words):
    chosen, listed = whole.load_profile(profile), table("templates")
    training = listed.loc[listed["use"] == "training", "template"].tolist()
    evaluation = listed.loc[listed["use"] == "evaluation", "template"].tolist()
    assert len(training) == 2 and len(training) + len(evaluation) == len(listed)
    assert chosen.prompts.train_templates == training
    assert chosen.prompts.evaluation_templates == evaluation
    assert chosen.base.lexicon_folder == FOLDER.name
    for attribute, shares in chosen.base.target.items():
        assert list(shares) == list(words.attributes[attribute].groups)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.csv")), ids=lambda p: p.stem)
def test_every_row_has_a_source_and_nothing_is_blank(path):
    rows = table(path.stem)
    assert "source" in rows and len(rows) > 0
    assert (rows.map(str.strip) == rows).all().all()
    assert (rows.drop(columns="colour", errors="ignore") != "").all().all()


def test_no_word_stands_in_two_lists(words):
    nouns = [*words.professions["profession"], *words.people["noun"], *words.general["noun"]]
    groups = [word for about in words.attributes.values() for word in about.words.values()]
    said = [text.lower() for text in (*nouns, *groups)]
    assert len(said) == 170 + 3 + 100 + 69 and len(set(said)) == len(said)
    named = [group for about in words.attributes.values() for group in about.groups]
    assert len(set(named)) == len(named)


def folds(listed):
    """Return the fold of every profession by the rule of the lists' README."""
    pairs = zip(listed["major_group"], listed["profession"], strict=True)
    order = sorted(pairs, key=lambda r: (r[0], sha256(r[1].encode()).hexdigest()))
    return {
        word: "validation" if i % 5 == 4 else str((i - i // 5) % 3)
        for i, (_, word) in enumerate(order)
    }


def test_folds_follow_their_rule():
    listed = table("professions")
    assert dict(zip(listed["profession"], listed["fold"], strict=True)) == folds(listed)
    sizes = listed["fold"].value_counts().to_dict()
    assert sizes == {"0": 46, "1": 45, "2": 45, "validation": 34}


def test_all_major_groups_occur():
    groups = set(table("professions")["major_group"])
    assert groups == {str(n) for n in range(11, 57, 2)}  # SOC 2018: 22 civilian ones, military 55


def test_every_ethnicity_is_counted_somewhere(words):
    counted, regions = table("ethnicities"), table("regions")
    assert sorted(counted["group"]) == sorted(words.attributes["ethnicity"].groups)
    places = set(zip(counted["region"], counted["subregion"], strict=True))
    assert places == {(region, part) for region, parts in SUBREGIONS.items() for part in parts}
    assert len(places) == 22
    assert set(counted["region"]) == set(regions["region"]) and len(regions) == 6
    assert set(counted["kind"]) == {"nationality", "people"}


# -- the whole grid


def test_the_whole_grid_has_every_combination_once(words):
    made = prompts.training_grid(words, drawing(570), BOTH)
    made = made[made["set"] == "balanced"]
    assert len(made) == 986_100
    assert made["images"].eq(1).all()
    assert not made["prompt"].duplicated().any()
    template = made["caption"].str.startswith("a portrait photo of ")
    variant = [made[name].astype("category").cat.codes for name in
               [*CELL, "ethnicity", "age"]]  # fmt: skip
    combined = pd.concat([*variant, template], axis=1)
    assert not combined.duplicated().any()
    assert combined.nunique().tolist() == [173, 2, 5, 57, 5, 2]  # whose product is the length


# -- a part of it


def test_prompts_say_what_their_row_says(balanced, words):
    templates = drawing(20).train_templates
    for row in balanced.sample(300, random_state=0).itertuples():
        asked = {a: about.words[getattr(row, a)] for a, about in words.attributes.items()}
        said = describe(row.noun, asked, words.attributes)
        pairs = [(prompts.fill(t, said), prompts.fill(t, row.noun)) for t in templates]
        assert (row.prompt, row.caption) in pairs


def test_every_cell_has_its_twenty_images(balanced):
    sizes = balanced.groupby(CELL)["images"].sum()
    assert len(sizes) == 173 * 2 * 5 and sizes.eq(20).all()
    assert not balanced["prompt"].duplicated().any()


def spread(rows, column):
    """Return the smallest and largest number of images of a column's values, per noun."""
    count = rows.pivot_table(index="noun", columns=column, values="images", aggfunc="sum")
    return count.fillna(0).min(axis=1), count.fillna(0).max(axis=1), len(count.columns)


def test_ethnicities_occur_nearly_equally_often_with_every_noun(balanced):
    least, most, groups = spread(balanced, "ethnicity")
    assert groups == 57 and (most - least).max() <= 1 and least.min() == 3
    everywhere = balanced.groupby("ethnicity")["images"].sum()  # in an order drawn for the noun
    assert everywhere.between(0.93 * 34_600 / 57, 1.07 * 34_600 / 57).all()


def test_ages_and_templates_occur_about_equally_often_with_every_noun(balanced):
    least, most, groups = spread(balanced, "age")
    assert groups == 5 and least.min() == 40 == most.max()  # of 200 images
    drawn = balanced.assign(template=balanced["caption"].str.startswith("a portrait"))
    least, most, groups = spread(drawn, "template")
    assert groups == 2 and least.min() >= 96 and most.max() <= 104  # 100 each


def test_ages_come_in_every_cell(balanced):
    ages = balanced.groupby(CELL)["age"].nunique()
    assert ages.eq(5).all()


def test_people_of_one_ethnicity_have_several_tones_and_genders(balanced):
    cells = balanced.groupby(["noun", "ethnicity"])[["gender", "skin_tone"]].nunique()
    assert (cells["skin_tone"] >= 2).all()
    everywhere = balanced.groupby("ethnicity")[["gender", "skin_tone", "age"]].nunique()
    assert (everywhere == [2, 5, 5]).all().all()


def test_the_control_is_as_large_and_names_nobody(grid, balanced):
    control = grid[grid["set"] == "unbalanced"]
    sizes = control.groupby("noun")["images"].sum()
    assert sizes.equals(balanced.groupby("noun")["images"].sum())
    plain = grid[grid["set"] != "balanced"]
    assert (plain[["gender", "skin_tone", "ethnicity", "age"]] == "").all().all()
    assert (plain["prompt"] == plain["caption"]).all()


@pytest.mark.parametrize("noun", ["accountant", "welder", "person"])
def test_a_noun_has_the_same_prompts_in_whatever_company(noun, words, grid):
    alone = replace(
        words,
        professions=words.professions[words.professions["profession"] == noun],
        people=words.people[words.people["noun"] == noun],
    )
    found = prompts.training_grid(alone, drawing(20), BOTH)
    want = grid[(grid["noun"] == noun) | (grid["kind"] == "general")].reset_index(drop=True)
    assert len(want) > 200
    pd.testing.assert_frame_equal(found, want)


def test_nouns_differ_in_who_is_left_out(balanced):
    """Which ethnicities come once more is drawn for the noun, not the same everywhere."""
    count = balanced.pivot_table(index="noun", columns="ethnicity", values="images", aggfunc="sum")
    assert len(count.drop_duplicates()) == len(count)


def test_the_grid_is_the_same_bytes_in_another_process(grid, tmp_path):
    write_table(tmp_path / "a.parquet", grid)
    write_table(tmp_path / "b.parquet", grid)
    here = (tmp_path / "a.parquet").read_bytes()
    assert here == (tmp_path / "b.parquet").read_bytes()
    code = (
        "import sys; from pathlib import Path\n"
        "from dft_lib.repro.files import write_table\n"
        "from dft_lib.study import lexicon, prompts\n"
        "from tests.test_lexicon_photos import BOTH, FOLDER, drawing\n"
        "grid = prompts.training_grid(lexicon.load(FOLDER), drawing(20), BOTH)\n"
        "write_table(Path(sys.argv[1]), grid)"
    )
    out = tmp_path / "c.parquet"
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    where = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    subprocess.run(
        [sys.executable, "-c", code, str(out)], check=True, cwd=tmp_path,
        env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": where},
    )  # fmt: skip
    assert out.read_bytes() == here
    pd.testing.assert_frame_equal(prompts.read_grid(out), grid, check_dtype=False)


# -- requests, and the grid of the emoji world


@pytest.fixture(scope="module")
def emoji():
    chosen = whole.load_profile("smoke")
    words = lexicon.load(chosen.base.lexicon_folder)
    training = prompts.training_grid(words, chosen.prompts, BOTH)
    return training, prompts.evaluation_grid(words, chosen.prompts, BOTH, "folds")


def test_the_emoji_grid_has_no_further_attributes(emoji):
    for made in emoji:
        assert not {"ethnicity", "age"} & set(made)
    training = emoji[0]
    ids = training.loc[training["set"] == "balanced", "prompt_id"]
    assert ids.str.count("/").eq(5).all()  # train, balanced, noun, gender, tone, template


@pytest.mark.parametrize("which", [0, 1])
def test_a_slice_of_requests_is_that_slice_of_all(emoji, which):
    made = emoji[which]
    assert made["images"].max() > 2 and made["images"].nunique() > 1
    listed, rows = prompts.requests(made)
    total = int(made["images"].sum())
    want = [(row.prompt_id, row.prompt, i) for row in made.itertuples() for i in range(row.images)]
    assert [(r.prompt_id, r.prompt, r.replicate) for r in listed] == want
    assert list(zip(rows["prompt_id"], rows["prompt"], rows["replicate"], strict=True)) == want
    assert "images" not in rows and (rows["noun"] != "").all()
    size = 7  # no multiple of a prompt's number of images
    cut = [slice(i, i + size) for i in range(0, total, size)]
    for part in [*cut, slice(5), slice(total - 3, None), slice(3, 3), slice(2, total + 9)]:
        some, records = prompts.requests(made, part)
        assert some == listed[part]
        pd.testing.assert_frame_equal(
            records, rows[part].reset_index(drop=True), check_dtype=False
        )


def test_prompts_without_images_ask_for_nothing(emoji):
    made = emoji[1].iloc[:3].assign(images=[2, 0, 1])
    listed, rows = prompts.requests(made)
    assert [r.prompt_id for r in listed] == [made["prompt_id"].iloc[i] for i in (0, 0, 2)]
    assert rows["replicate"].tolist() == [0, 1, 0]
    nothing, none = prompts.requests(made[:0])
    assert nothing == [] and len(none) == 0
