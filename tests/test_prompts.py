import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dft_lib.models import pipelines
from dft_lib.models.conditioning import require_distinct, tokenize
from dft_lib.repro import places
from dft_lib.stages.prompts import make_prompts
from dft_lib.study import lexicon, prompts
from dft_lib.study.attributes import describe

NAMED = ["gender", "skin_tone"]


@pytest.fixture(scope="module")
def words():
    return lexicon.load()


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


@pytest.mark.parametrize("field", ["train_templates", "evaluation_templates"])
@pytest.mark.parametrize(
    ("templates", "sentence"),
    [
        (["a photo"], "exactly once"),
        (["{a}", ""], "exactly once"),
        (["{a} and {a}"], "exactly once"),
        (["{a} beside {}"], "exactly once"),
        (["{A}"], "exactly once"),
        (["{ }"], "exactly once"),
        (["{a} {prompt}"], "exactly once"),
        (["{{}}"], "exactly once"),
        (["{noun}"], "exactly once"),
        (["a {a"], "exactly once"),
        (["{a}", "a photo of {a}", "A photo of\u00a0{a} "], "same template twice"),
    ],
)
def test_templates_hold_their_place_once(study, field, templates, sentence):
    with pytest.raises(ValueError, match=f"{field} holds .*{sentence}") as error:
        prompts.Prompts.model_validate(study.prompts.model_dump() | {field: templates})
    assert "\n" not in str(error.value.errors()[0]["ctx"]["error"])


def test_templates_that_hold_their_place_are_taken(study):
    for templates in (["{a}"], ["{}"], ["photo: {}, sharp", "{a} (a portrait)"]):
        prompts.Prompts.model_validate(study.prompts.model_dump() | {"train_templates": templates})


LONG = "a very detailed drawing of a lot of light and of a lot of colour on a wall in a room of "


@pytest.mark.parametrize(
    ("templates", "sentence"),
    [
        ([LONG * 3 + "{a}"], "is too long: .* tokens, but the text encoder reads"),
        (["{a}", "{a} \u2603"], None),
        (["a photo of {a}", "A photo of {a}"], "as the same words"),
    ],
)
def test_01_stops_at_prompts_that_the_text_encoder_cannot_tell_apart(
    study, random_model, tmp_path, monkeypatch, templates, sentence
):
    monkeypatch.setattr(places, "ROOT", tmp_path)
    out = tmp_path / "prompts"
    base = study.base.model_copy(update={"model": str(random_model)})
    chosen = study.prompts.model_copy(update={"train_templates": templates, "out": str(out)})
    if sentence is None:
        make_prompts(base, chosen)
        return
    with pytest.raises(ValueError, match=sentence) as error:
        make_prompts(base, chosen)
    assert "\n" not in str(error.value)
    assert not out.exists() or not list(out.glob("*.parquet"))


def test_prompts_are_distinct_if_one_encoder_tells_them_apart(random_model):
    (tokenizer,) = pipelines.tokenizers(str(random_model))

    class Deaf:
        model_max_length = 77

        def __call__(self, texts, **options):
            return SimpleNamespace(input_ids=[[1]] * len(texts))

    require_distinct(["a nurse", "a pilot", "a nurse"], [tokenizer, Deaf()])
    require_distinct([], [tokenizer])
    with pytest.raises(ValueError, match="reads 'a nurse' and 'a pilot' as the same words"):
        require_distinct(["a nurse", "a pilot"], [Deaf(), Deaf()])
    with pytest.raises(ValueError, match="is too long"):
        require_distinct(["a nurse", LONG * 3], [Deaf(), tokenizer])


def test_a_prompt_that_reaches_the_model_is_read_to_its_end(random_model):
    pipeline = SimpleNamespace(
        tokenizer=pipelines.tokenizers(str(random_model))[0], text_encoder=None, device="cpu"
    )
    limit = pipeline.tokenizer.model_max_length
    fits = "a " * (limit - 2)  # and a start and an end
    assert tokenize(pipeline, [fits, "a"]).shape == (2, 1, limit)
    with pytest.raises(
        ValueError, match=f"{limit + 1} tokens, but the text encoder reads {limit}"
    ):
        tokenize(pipeline, ["a", fits + "a"])


def test_tokenizers_that_are_not_there(tmp_path, random_model):
    with pytest.raises(FileNotFoundError, match="is missing"):
        pipelines.tokenizers(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="not a diffusers pipeline"):
        pipelines.tokenizers(str(tmp_path))
    shutil.copy(random_model / "model_index.json", tmp_path)
    with pytest.raises(ValueError, match="tokenizers of .* could not be loaded"):
        pipelines.tokenizers(str(tmp_path))
