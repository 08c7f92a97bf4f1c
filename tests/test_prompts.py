from dataclasses import replace

import pytest

from dft_lib.study import lexicon, prompts
from dft_lib.study.attributes import describe

NAMED = ["gender", "skin_tone"]


@pytest.fixture(scope="module")
def words():
    return lexicon.load()


def test_articles():
    for phrase, want in {
        "artist": "an artist", "judge": "a judge", "university lecturer": "a university lecturer",
        "hourly worker": "an hourly worker", "umpire": "an umpire", "European cook": "a European",
    }.items():  # fmt: skip
        assert prompts.article(phrase).startswith(want)


def test_descriptions_name_only_what_is_given(words):
    known = words.attributes
    assert describe("pilot", {}, known) == "pilot"
    both = {"gender": "woman", "skin_tone": "dark"}
    assert describe("pilot", both, known) == "dark-skinned woman pilot"
    after = known | {"skin_tone": replace(known["skin_tone"], pattern="with {} skin", place=1)}
    assert describe("pilot", both, after) == "woman pilot with dark skin"
    assert describe("person", both, after) == "woman with dark skin"
    assert describe("person", {"skin_tone": "dark"}, known) == "dark-skinned person"
    aged = lexicon.load("lexicon_photos").attributes
    assert describe("person", {"gender": "man", "age": "old"}, aged) == "old man"
    everything = {"gender": "man", "ethnicity": "Thai", "age": "old", "skin_tone": "dark"}
    assert describe("cook", everything, aged) == "old dark-skinned Thai man cook"


def test_balanced_set_is_balanced_and_the_control_as_large(words, study):
    grid = prompts.training_grid(words, study.prompts, NAMED)
    sizes = grid.groupby(["set", "noun"])["images"].sum()
    assert (sizes["balanced"] == sizes["unbalanced"]).all()
    cells = (
        grid[grid["set"] == "balanced"].groupby(["noun", "gender", "skin_tone"])["images"].sum()
    )
    assert cells.groupby("noun").nunique().eq(1).all()
    assert (cells.groupby("noun").size() == 10).all()


def test_captions_drop_every_group_word(words, study):
    grid = prompts.training_grid(words, study.prompts, NAMED)
    forbidden = {"woman", "man", "skinned", "light", "dark", "medium"}
    for caption in grid["caption"]:
        assert not forbidden & set(caption.replace("-", " ").split()), caption
    neutral = grid[grid["set"] != "balanced"]
    assert (neutral["prompt"] == neutral["caption"]).all()


def test_validation_professions_never_count_in_the_study(words, study):
    fold = dict(zip(words.professions["profession"], words.professions["fold"], strict=True))
    grid = prompts.evaluation_grid(words, study.prompts, NAMED, "folds")
    assert not any(fold.get(noun) == lexicon.VALIDATION for noun in grid["noun"])
    tuning = prompts.evaluation_grid(words, study.prompts, NAMED, "validation")
    assert any(fold.get(noun) == lexicon.VALIDATION for noun in tuning["noun"])


def test_no_evaluation_prompt_shares_its_noise_with_training(words, study):
    training = prompts.training_grid(words, study.prompts, NAMED)
    evaluation = prompts.evaluation_grid(words, study.prompts, NAMED, "folds")
    assert not set(training["prompt_id"]) & set(evaluation["prompt_id"])


def test_requests_follow_the_grid(words, study):
    grid = prompts.evaluation_grid(words, study.prompts, NAMED, "folds")
    listed, rows = prompts.requests(grid)
    assert len(listed) == len(rows) == grid["images"].sum()
    assert len({(r.prompt_id, r.replicate) for r in listed}) == len(listed)
    assert [r.prompt for r in listed] == rows["prompt"].tolist()


def test_a_term_in_two_lists_is_refused(words, study):
    clash = lexicon.Lexicon(
        words.professions,
        words.people.assign(noun=["pilot"]),
        words.general,
        words.attributes,
    )
    with pytest.raises(ValueError, match="listed twice"):
        prompts.training_grid(clash, study.prompts.model_copy(update={"professions": 0}), NAMED)


def test_missing_grid(tmp_path):
    with pytest.raises(FileNotFoundError, match="run notebook 01_prompts first"):
        prompts.read_grid(tmp_path / "training.parquet")
