"""What is wrong with a study is said before it starts, all of it, a sentence each."""

import copy
import json
import shutil
import sys

import pytest

from dft_lib.image_sets import real
from dft_lib.models import pipelines
from dft_lib.repro.paths import ROOT
from dft_lib.repro.yaml_files import read_yaml
from dft_lib.runner import checks, space, wiring
from dft_lib.study import profiles
from dft_lib.study.params import whole
from dft_lib.study.schema import read_values
from dft_lib.training import job
from dft_lib.world import settings as worlds

PATH = ROOT / "params.yaml"
FREE = shutil.disk_usage(ROOT)._replace(free=10**15)


@pytest.fixture
def values():
    """Return the default study's values, with fewer prompts."""
    found = copy.deepcopy(read_values(PATH))
    found["prompts"] |= {"professions": 2, "evaluation_images": 2}
    return found


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Open no rater but once, and find room on any disk."""
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: FREE)


def found(values):
    return checks.problems(values, PATH)


@pytest.mark.parametrize("name", ["", "full", "validation", "smoke"])
def test_the_studies_of_drawings_can_start(name):
    values = profiles.merged(profiles.find(name)) if name else read_values(PATH)
    assert found(values) == []


def test_everything_wrong_is_said_at_once(values, monkeypatch):
    arms = values["arms"]
    arms["dft"]["recipe"] = "denoisin"
    arms["dft_blended"]["train"] = {"captions": "mixed", "caption_mixup": 2.0}
    arms["unbalanced"]["train"] = {"images": "unbalancd"}
    arms["fair_guidance"]["draw"]["warmpu"] = arms["fair_guidance"]["draw"].pop("warmup")
    arms["prompt_randomisation"]["intervention"] = "people"
    arms["ethical_intervention"]["data"] = "synthetic/imags"
    values["base"]["model"] = "data/tiny_sd"
    values["synthesis"] |= {"shard_size": 250, "prompts": "synthetic/prompt"}
    values["measure"]["calibration"] = "world/results/confusion.csv"
    values["real"]["source"] = "photograph"
    values["figures"]["out"] = "paper/figure"
    text = found(values)
    for sentence in (
        "arms.dft.recipe: recipe 'denoisin' has no file src/dft_lib/recipes/denoisin.py",
        "arms.dft_blended.recipe: the arm's train (denoising): caption_mixup: input should be",
        "arms.unbalanced.recipe: trains on the set 'unbalancd', but synthetic/images has balanced",
        "arms.fair_guidance.intervention: the arm's draw (fair_guidance): warmpu is no parameter",
        "arms.prompt_randomisation.intervention: src/dft_lib/interventions/people.py is no interv",
        "arms.ethical_intervention.recipe: data names 'synthetic/imags', which no stage makes",
        "base.model: model data/tiny_sd is missing",
        "synthesis.shard_size: 250 is no multiple of base.batch_size 32",
        "synthesis.prompts: is 'synthetic/prompt', but prompts.out is 'synthetic/prompts'",
        "measure.calibration: world/results/confusion.csv is missing",
        "real.source: photograph is no folder",
        "figures.out: is 'paper/figure', but that stage makes paper/figures in dvc.yaml",
    ):
        assert [t for t in text if t.startswith(sentence)], (sentence, text)
    assert len(text) == 12
    assert all("\n" not in sentence for sentence in text)


def test_params_that_are_no_params_are_all_listed(values):
    values["finetune"]["rank"] = "sixteen"
    values["prompts"]["evaluation_image"] = values["prompts"].pop("evaluation_images")
    first, second = found(values)
    assert first.startswith("params.yaml: prompts.evaluation_image is no parameter")
    assert first.endswith("(did you mean evaluation_images?)")
    assert second.startswith("params.yaml: finetune.rank: input should be a valid integer")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import package_that_is_not_there", "No module named 'package_that_is_not_there'"),
        ("fit = 1", "is no recipe, it lacks Settings or fit"),
        ("def fit(:", "invalid syntax"),
    ],
)
def test_a_recipe_that_cannot_be_loaded(values, monkeypatch, tmp_path, text, sentence):
    from dft_lib import recipes

    (tmp_path / "guest.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(tmp_path)])
    values["arms"]["dft"]["recipe"] = "guest"
    (said,) = found(values)
    sys.modules.pop("dft_lib.recipes.guest", None)
    assert said.startswith("arms.dft.recipe: ")
    assert sentence in said
    assert "has no file" not in said


def test_a_helper_is_no_recipe():
    with pytest.raises(ValueError, match="has no file"):
        job.find("base")


def test_prompts_that_the_encoder_cannot_read(values):
    values["arms"]["ethical_intervention"]["draw"]["sentence"] = "{prompt}" + " man" * 80
    (said,) = found(values)
    assert said.startswith("arms.ethical_intervention.intervention: the prompt")
    assert "is too long" in said


def test_a_fold_without_professions(values, monkeypatch):
    whole = checks.lexicon.load

    def without(folder):
        words = whole(folder)
        table = words.professions
        return checks.lexicon.Lexicon(
            table[table["fold"] != "1"], words.people, words.general, words.attributes
        )

    monkeypatch.setattr(checks.lexicon, "load", without)
    (said,) = found(values)
    assert "no profession is held out with training seed 1" in said


def test_a_rater_without_weights(values, monkeypatch):
    def missing(path):
        raise FileNotFoundError(f"{path.name} is missing: run `dvc pull`")

    monkeypatch.setattr("dft_lib.raters.drawings.hog.open_rater", missing)
    assert found(values) == ["rater hog: hog.safetensors is missing: run `dvc pull`"]


def test_targets_of_a_training_have_the_studys_groups(values):
    values["arms"]["dft"]["train"] = {"target": {"gender": {"man": 0.5, "woman": 0.5}}}
    (said,) = found(values)
    assert "target.gender names man, woman, but base.target has woman, man" in said


def test_real_pictures_that_are_not_there(values):
    values["real"]["source"] = "photographs"
    values["arms"]["dft"] |= {"data": "real/images", "train": {"images": "corpus"}}
    assert found(values) == [
        "arms.dft.recipe: trains on the set 'corpus', but real/images has no pictures: mend "
        "train.images or data"
    ]
    values["arms"]["dft"]["recipe"] = "none"
    values["arms"]["dft"]["train"] = {}
    assert found(values) == []


def test_the_sets_of_a_source_are_those_of_notebook_02b(tmp_path):
    assert set(worlds.FILES) == wiring.WORLD_FILES
    assert wiring.sets_of(worlds.EMOJI) == real.SETS
    (tmp_path / "README.md").touch()
    assert wiring.sets_of(tmp_path) == ()
    (tmp_path / "a.parquet").touch()
    assert wiring.sets_of(tmp_path) == ("corpus", "oversampled", "general")


def test_a_full_disk(values, monkeypatch):
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: FREE._replace(free=10**6))
    (said,) = found(values)
    assert said.startswith("disk: ")
    assert "but 0.0 GB are free" in said


def test_the_disk_of_the_default_study(monkeypatch):
    """Measured: 25.6 MB for 4020 pictures of 64 x 64, of 02 alone."""
    chosen = whole.load()
    words = checks.lexicon.load(chosen.base.lexicon_folder)
    named = list(chosen.base.target)
    training = checks.prompts.training_grid(words, chosen.prompts, named)
    evaluation = checks.prompts.evaluation_grid(words, chosen.prompts, named, chosen.base.held_out)
    drawn = int(training["images"].sum())
    assert space.side_of(chosen.base.model) == 64
    only = chosen.model_copy(update={"arms": {}})
    pictures, size = space.needed(only, training, evaluation, {})
    assert pictures == drawn == 4020
    assert size / (2 * 25.6e6) == pytest.approx(1.0, abs=0.25)
    many, _ = space.needed(chosen, training, evaluation, {})
    seeds = sum(3 if arm.recipe != "none" else 1 for arm in chosen.arms.values())
    assert many == drawn + seeds * evaluation["images"].sum()


def test_a_model_of_the_hub_that_is_not_here():
    assert space.side_of("hub/sdxl.yaml") in (512, 1024)


def test_dvc_makes_what_params_say():
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    assert list(wiring.differences(whole.load())) == []
    assert "results/audit.json" in wiring.outputs(stages["synthesis"])


def test_the_file_says_only_that_it_was_checked(monkeypatch, tmp_path, values, capsys):
    monkeypatch.setattr(checks, "ROOT", tmp_path)
    monkeypatch.setattr(checks, "read_values", lambda path: values)
    (tmp_path / "runs").mkdir()
    checks.main()
    assert json.loads((tmp_path / "runs" / "checked.json").read_text()) == {"checked": True}
    values["synthesis"]["shard_size"] = 1
    values["evaluate"]["shard_size"] = 1
    with pytest.raises(SystemExit, match=r"cannot start:\n- synthesis.*\n- evaluate"):
        checks.main()


def test_cuda_is_asked_for_and_not_there(values, monkeypatch):
    monkeypatch.setattr(pipelines.torch.cuda, "is_available", lambda: False)
    values["base"]["device"] = "cuda"
    assert any(s.startswith("base.device: base.device is cuda") for s in found(values))
