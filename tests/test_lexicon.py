import shutil

import pandas as pd
import pytest

from dft_lib.repro.paths import LEXICON
from dft_lib.study import lexicon, wordlist


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
        ("general.csv", lambda t: t + " Dog ,again\n", "'Dog' stands there twice"),
        ("general.csv", lambda t: t + ",nothing\n", "noun is blank; fill it"),
        ("professions.csv", lambda t: t.replace(",1,", ",7,", 1), "fold '7' is unknown"),
        # twins that nobody sees
        *(
            ("professions.csv", lambda t, twin=twin: t + twin + ",1,own\n", "stands there twice")
            for twin in (
                "health\u00a0worker",
                "health  worker",
                "Health Worker",
                "HEALTH WORKER",
                "health\u2009worker",
                "\u200bhealth worker",
                "heal\u00adth worker",
                "\ufeffpilot",
                "pi\u200dlot",
                "\uff50\uff49lot",
                "pilot\u2060",
                "pilot\t",
                '"pilot"',
            )
        ),
        ("general.csv", lambda t: t + "caf\u00e9,own\ncafe\u0301,own\n", "stands there twice"),
        ("general.csv", lambda t: t + "jack's box,own\njack\u2019s box,own\n", "there twice"),
        ("general.csv", lambda t: t + "T\u2011shirt,own\nT-shirt,own\n", "stands there twice"),
        ("people.csv", lambda t: t + "Pilot\u00a0,own\n", "stands in two of the lists"),
        ("groups.csv", lambda t: t.replace("man,man", "man,Woman"), "'Woman' stands there twice"),
        ("groups.csv", lambda t: t.replace("dark,dark", "dark,light", 1), "there twice"),
        # rows that would be lost
        ("professions.csv", lambda t: t.replace("pilot", '"pilot'), r"line \d+: a quote opens"),
        (
            "professions.csv",
            lambda t: t.replace("pilot", '"pilot', 1).replace("cook", 'cook"', 1),
            r"line \d+: a quote opens or closes|holds a quote",
        ),
        ("professions.csv", lambda t: t.replace("pilot", 'pi"lot'), "profession holds a quote"),
        ("professions.csv", lambda t: t.replace("pilot", '"pi"lot'), "a quote opens or closes"),
        ("professions.csv", lambda t: t[: len(t) // 2], "fields, the header|may be cut off"),
        ("professions.csv", lambda t: t.rstrip("\n"), "may be cut off"),
        ("professions.csv", lambda t: t + "nurse,1\n", "has 2 fields, the header 3"),
        ("professions.csv", lambda t: t + "nurse,1,own,more\n", "has 4 fields, the header 3"),
        ("professions.csv", lambda t: t.replace(",", ";"), "separates its fields by ';'"),
        ("professions.csv", lambda t: t.replace(",", "\t"), "separates its fields by"),
        ("professions.csv", lambda t: t.replace("source", "fold", 1), "two columns 'fold'"),
        ("professions.csv", lambda t: t + "nur\0se,1,own\n", "zero bytes"),
        ("professions.csv", lambda t: "\n\n" + t + "\n,1,own\n", r"line 24: profession is blank"),
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


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\n", b"\r"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\n\n"),
        lambda data: data.replace(b"health worker", "health\u00a0 worker\u200b".encode()),
        lambda data: data.replace(b"health worker", b'"health worker"'),
    ],
    ids=["CRLF", "CR", "BOM", "blank lines", "spaces", "quotes"],
)
def test_traces_of_editors_change_nothing(folder, change):
    before = lexicon.load(folder).professions
    path = folder / "professions.csv"
    path.write_bytes(changed := change(path.read_bytes()))
    assert changed != (LEXICON / "professions.csv").read_bytes()
    pd.testing.assert_frame_equal(lexicon.load(folder).professions, before)


def test_files_that_are_none(folder):
    path = folder / "people.csv"
    path.write_bytes("noun,source\nperson,M\u00fcller\n".encode("latin-1"))
    with pytest.raises(ValueError, match="people.csv cannot be read .it is not UTF-8"):
        lexicon.load(folder)
    path.write_bytes("noun,source\nperson,own\n".encode("utf-16"))
    with pytest.raises(ValueError, match="people.csv cannot be read"):
        lexicon.load(folder)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="people.csv cannot be read .it is no file"):
        lexicon.load(folder)
    path.rmdir()
    path.symlink_to(path)
    with pytest.raises((ValueError, FileNotFoundError), match="people.csv") as error:
        lexicon.load(folder)
    assert "\n" not in str(error.value)
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises((ValueError, FileNotFoundError), match="loop") as error:
        lexicon.load(folder / "loop")
    assert "\n" not in str(error.value)


def test_words_that_only_look_alike_stay_apart():
    pairs = [("cook", "cooker"), ("na\u00efve", "naive"), ("co-pilot", "copilot"), ("a b", "ab")]
    assert all(wordlist.key(a) != wordlist.key(b) for a, b in pairs)
