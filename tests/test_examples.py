"""Which pictures train an arm, under which captions, with which weights."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from dft_lib.image_sets import examples
from dft_lib.study.training import Training, training

CELL = ["kind", "noun", "gender", "skin_tone"]


@pytest.fixture
def chosen(study) -> Training:
    return training(study.finetune, {}, Training)


@pytest.fixture
def rows() -> pd.DataFrame:
    """Return cells of 1 to 7 pictures, weighted as screening does, from two templates each."""
    listed, count = [], 0
    for kind, noun, fold in [
        ("profession", "guard", "1"), ("profession", "artist", "2"), ("person", "person", ""),
    ]:  # fmt: skip
        for gender in ("woman", "man"):
            for tone in ("light", "dark"):
                count += 1
                for i in range(1 + count % 7):
                    listed.append([kind, noun, fold, gender, tone, i % 2, 0.25 / (1 + count % 7)])
    for noun in ("dog", "cat"):
        listed += [["general", noun, "", "", "", i % 2, 1 / 5] for i in range(5)]
    names = ["kind", "noun", "fold", "gender", "skin_tone", "template", "weight"]
    table = pd.DataFrame(listed, columns=names)
    table.loc[table["noun"] == "artist", "weight"] *= 2  # nouns need not weigh alike
    photo = np.where(table["template"] == 1, "a photo of ", "")
    asked = np.where(table["gender"] != "", table["skin_tone"] + " " + table["gender"] + " ", "")
    table["caption"] = photo + "a " + table["noun"]
    table["prompt"] = photo + "a " + asked + table["noun"]
    table["set"] = np.where(table["kind"] == "general", "general", "balanced")
    # as in a set of which an arm may use a part: rows are not numbered from 0 without gaps
    return table.set_index(np.arange(len(table)) * 3 + 5)


NAMED = ("gender", "skin_tone")


def select(rows, chosen, **changes):
    return examples.select(rows, chosen.model_copy(update=changes), 0, "folds", NAMED)


@pytest.mark.parametrize("share", [0.1111, 1 / 3, 0.5, 0.8, 1.0])
def test_data_share_keeps_the_first_of_every_cell_and_its_weight(rows, chosen, share):
    kept = select(rows, chosen, data_share=share)
    for cell, mine in rows.groupby(CELL):
        want = math.ceil(round(share * len(mine), 6))
        here = kept[(kept[CELL] == list(cell)).all(axis=1)]
        assert len(here) == want
        assert set(here.index) <= set(mine.index)
        assert here["weight"].sum() == pytest.approx(mine["weight"].sum())
        assert here["weight"].nunique() == 1
    assert kept.index.is_monotonic_increasing
    if share == 1.0:
        pd.testing.assert_frame_equal(kept[list(rows)], rows)


def test_data_share_takes_the_first_pictures(rows, chosen):
    one = rows.assign(template=0, caption="a", prompt="a")  # of one template
    kept = select(one, chosen, data_share=0.5)
    for _, mine in one.groupby(CELL):
        there = mine.index.isin(kept.index)
        assert sorted(there, reverse=True) == list(there)


def test_data_share_keeps_the_templates(chosen):
    """9 pictures in 3 templates, as the study's grid: a third of them has all templates."""
    table = pd.DataFrame(
        {
            "kind": "profession", "noun": "guard", "fold": "1", "gender": "woman",
            "skin_tone": "dark", "weight": 1 / 9, "prompt": "a dark-skinned woman guard",
            "caption": np.repeat(["a guard", "a photo of a guard", "a portrait of a guard"], 3),
        }
    )  # fmt: skip
    assert select(table, chosen, data_share=0.3333)["caption"].nunique() == 3


def test_target_moves_weight_between_the_cells_of_a_noun(rows, chosen):
    target = {"gender": {"woman": 0.3, "man": 0.7}, "skin_tone": {"light": 0.9, "dark": 0.1}}
    moved = select(rows, chosen, target=target)
    assert list(moved.index) == list(rows.index)
    for noun, mine in moved.groupby("noun"):
        assert mine["weight"].sum() == pytest.approx(rows.loc[mine.index, "weight"].sum()), noun
    people = moved[moved["kind"] != "general"]
    for cell, mine in people.groupby(CELL):
        want = target["gender"][cell[2]] * target["skin_tone"][cell[3]]
        whole = people.loc[people["noun"] == cell[1], "weight"].sum()
        assert mine["weight"].sum() / whole == pytest.approx(want), cell
        assert mine["weight"].nunique() == 1
    things = moved["kind"] == "general"
    assert (moved.loc[things, "weight"] == rows.loc[things, "weight"]).all()


def test_target_of_one_attribute_and_part_of_the_data(rows, chosen):
    target = {"gender": {"woman": 0.25, "man": 0.75}}
    moved = select(rows, chosen, target=target, data_share=0.5)
    people = moved[moved["kind"] != "general"]
    share = (
        people.groupby(["noun", "gender"])["weight"].sum() / people.groupby("noun")["weight"].sum()
    )
    for (_, gender), value in share.items():
        assert value == pytest.approx(target["gender"][gender])


def test_groups_that_a_target_leaves_out_get_no_weight(rows, chosen):
    moved = select(rows, chosen, target={"gender": {"woman": 0.5}, "skin_tone": {"light": 1.0}})
    people = moved[moved["kind"] != "general"]
    outside = people[(people["gender"] == "man") | (people["skin_tone"] == "dark")]
    assert outside["weight"].sum() == 0


def test_shuffled_captions_are_the_same_captions_of_other_pictures(rows, chosen):
    whole = pd.concat([rows] * 4, ignore_index=True)  # enough that chance places no caption
    plain = select(whole, chosen, captions="dropped")
    mixed = select(whole, chosen, captions="shuffled")
    assert list(mixed.index) == list(plain.index)
    pd.testing.assert_frame_equal(mixed.drop(columns="text"), plain.drop(columns="text"))
    people = plain["kind"] != "general"
    assert sorted(mixed.loc[people, "text"]) == sorted(plain.loc[people, "text"])
    assert (mixed.loc[~people, "text"] == plain.loc[~people, "text"]).all()
    # by chance alone a caption stays where it was with the probability of drawing it again
    stays = (plain.loc[people, "text"].value_counts(normalize=True) ** 2).sum()
    found = (mixed.loc[people, "text"] == plain.loc[people, "text"]).mean()
    assert found < stays + 0.15 and stays < 0.3
    again = select(whole, chosen, captions="shuffled")
    assert (again["text"] == mixed["text"]).all()
    other = examples.select(
        whole, chosen.model_copy(update={"captions": "shuffled"}), 3, "folds", NAMED
    )  # holds out the same fold
    assert (other["text"] != mixed["text"]).any()


def test_mixed_captions_are_kept_and_dropped_in_turn(rows, chosen):
    mixed = select(rows, chosen, captions="mixed")
    kept = (mixed["text"] == mixed["prompt"]) & (mixed["prompt"] != mixed["caption"])
    people = mixed["kind"] != "general"
    assert abs(kept[people].mean() - 0.5) < 0.1
    assert ((mixed["text"] == mixed["caption"]) | kept).all()


def test_unknown_set_names_those_there_are(rows):
    with pytest.raises(ValueError) as caught:
        examples.usable(rows, "blanced")
    message = str(caught.value)
    assert "no pictures of the set 'blanced'" in message and "balanced, general" in message
    assert "\n" not in message
    # a set of which screening left nothing is not there either
    none = rows.assign(weight=np.where(rows["set"] == "balanced", 0.0, rows["weight"]))
    with pytest.raises(ValueError, match="there are: general"):
        examples.usable(none, "balanced")


def test_examples_are_the_selected_pictures(rows, chosen):
    """Latents, captions and weights of one example belong to one picture."""
    whole = rows.reset_index(drop=True)
    picked = select(whole, chosen, captions="kept", data_share=0.5)
    moments = torch.arange(2 * len(whole)).float().reshape(2, len(whole), 1, 1, 1)
    made = examples.examples(moments, picked)
    assert made.captions[-1] == "" and len(set(made.captions)) == len(made.captions)
    mean, std = made.latents(np.arange(len(picked)))
    for i, (place, row) in enumerate(picked.iterrows()):
        assert mean[i].item() == place and std[i].item() == len(whole) + place
        assert made.captions[made.caption[i]] == row["prompt"]
        for kind, weight in made.weight.items():
            part = picked.loc[picked["kind"] == kind, "weight"].sum()
            want = row["weight"] / part if row["kind"] == kind else 0
            assert weight[i] == pytest.approx(want)
    assert set(made.weight) == {"profession", "person", "general"}
