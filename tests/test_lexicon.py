import shutil

import pytest

from dft_lib.repro.paths import LEXICON
from dft_lib.study import lexicon


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(LEXICON, tmp_path / "lexicon")
    return tmp_path / "lexicon"


def edit(folder, name, change):
    path = folder / name
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("people.csv", lambda t: "noun,source\n", "people.csv is empty: add at least one row"),
        ("people.csv", lambda t: "", "people.csv cannot be read"),
        ("people.csv", lambda t: t.replace("noun", "word"), "people.csv has no column 'noun'"),
        ("general.csv", lambda t: t + " Dog ,again\n", "'dog' stands there twice"),
        ("general.csv", lambda t: t + ",nothing\n", "noun is blank; fill it"),
        ("professions.csv", lambda t: t.replace(",1,", ",7,", 1), "fold '7' is unknown"),
    ],
)
def test_bad_lists_stop_with_one_sentence(folder, name, change, sentence):
    edit(folder, name, change)
    with pytest.raises(ValueError, match=sentence) as error:
        lexicon.load(folder)
    assert "\n" not in str(error.value)


def test_missing_list(folder):
    (folder / "groups.csv").unlink()
    with pytest.raises(FileNotFoundError, match="groups.csv is missing"):
        lexicon.load(folder)


def test_every_profession_is_held_out_by_exactly_one_seed():
    words = lexicon.load()
    for row in words.professions.itertuples():
        held = [lexicon.held_out(row.fold, seed, "folds") for seed in (0, 1, 2)]
        assert sum(held) == (0 if row.fold == lexicon.VALIDATION else 1)
        assert lexicon.held_out(row.fold, 5, "folds") == held[2]


def test_tuning_holds_out_the_validation_professions_and_no_other():
    for fold in (*lexicon.FOLDS, lexicon.VALIDATION):
        assert lexicon.held_out(fold, 0, "validation") == (fold == lexicon.VALIDATION)


def test_unknown_attribute():
    with pytest.raises(
        ValueError, match="'age', which attributes.csv of the lexicon does not have"
    ):
        lexicon.load().chosen({"age": {"old": 1.0}})
