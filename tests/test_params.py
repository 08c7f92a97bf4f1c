import re

import pytest

from dft_lib.interventions.base import Setting, open_intervention
from dft_lib.repro.paths import ROOT
from dft_lib.study import lexicon, params
from dft_lib.training import job as recipes

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *PROFILES], ids=lambda p: p.stem)
def test_every_profile_is_valid(path):
    params.load(path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "learning_rate:",
            "learning_rat:",
            r"finetune.learning_rat is no parameter.*did you mean",
        ),
        ("rank: 16", "rank: sixteen", r"finetune.rank: input should be a valid integer.*sixteen"),
        ("rank: 16", "rank: 16.5", r"finetune.rank: input should be a valid integer"),
        ("rank: 16", "rank: 0", r"finetune.rank: input should be greater than 0"),
        ("woman: 0.5", "woman: 0.6", r"base.target.gender sums to 1.1: make its shares sum to 1"),
        ("captions: mixed", "captions: mix", r"arms.dft_blended.train.captions"),
        ("captions: mixed", "captons: mixed", r"arms.dft_blended.train.captons is no param"),
        ("recipe: none", "recipe: 'no ne'", r"arms.base.recipe: string should match"),
        ("train: {}", "train: {rank: 4}", r"arms.base.train has settings, but nothing takes them"),
        ("target: null", "target: {gender: {woman: 0.6, man: 0.6}}", r"target.gender sums to 1.2"),
        ("arms: [base,", "arms: [bas,", r"figures.arms names 'bas'"),
        ("threads: 2", "threads: [2", r"line \d+: not valid YAML"),
        (
            "role: convnet",
            "role: convnt",
            r"base.no rater 'convnt'; there are: .*convnet",
        ),
        (
            "role: hog",
            "role: palette",
            r"'palette' does not answer for 'role', only for",
        ),
        ("    gender: convnet", "    gender: hog", r"rater 'hog' steers or filters and may not"),
        ("    skin_tone: palette\n", "", r"base.target.skin_tone has no rater: name one in steer"),
        (
            "training_seeds: [0, 1, 2]",
            "training_seeds: [0, -1]",
            r"training_seeds.1: input",
        ),
        ("training_seeds: [0, 1, 2]", "training_seeds: [0, 0]", r"names a seed twice: remove one"),
        (
            "features: convnet",
            "features: hog",
            r"evaluate.features names 'hog', which is no judge",
        ),
        (
            "learning_rate: 1.0e-3",
            "learning_rate: .inf",
            r"learning_rate: input should be a finite",
        ),
        ("  out: real/images", "  out: ''", r"real.out is '.*': name a place below the root"),
        ("  out: real/images", "  out: .", r"real.out is '.': name a place below the root"),
        ("  out: real/images", "  out: ../x", r"real.out is '../x': name a place below"),
        ("  out: models", "  out: /tmp", r"finetune.out is '/tmp': name a place below"),
        ("audit_file: results", "audit_file: /results", r"synthesis.audit_file is '/results/"),
        ("metrics_file: results", "metrics_file: a/../../results", r"figures.metrics_file is"),
        ("scheduler: ddim", "scheduler: euler", r"base.scheduler: input should be 'ddim'"),
    ],
)
def test_bad_values_stop_with_one_sentence(tmp_path, old, new, sentence):
    assert old in TEXT
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError) as error:
        params.load(path)
    message = str(error.value)
    assert "\n" not in message
    assert "params.yaml" in message
    assert re.search(sentence, message), message


def test_missing_group_and_file(tmp_path):
    path = tmp_path / "params.yaml"
    with pytest.raises(FileNotFoundError, match="git checkout"):
        params.load(path)
    path.write_text(TEXT[: TEXT.index("figures:")], encoding="utf-8")
    with pytest.raises(ValueError, match="figures is missing"):
        params.load(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no parameters"):
        params.load(path)


def test_numbers_in_exponent_form_are_numbers(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r"learning_rate: \S+", "learning_rate: 1e-4", TEXT), encoding="utf-8")
    assert params.load(path).finetune.learning_rate == pytest.approx(1e-4)


def test_an_arm_changes_only_what_it_names():
    chosen = params.load()
    default, blended = (
        params.training(chosen.finetune, chosen.arms[name].train, params.Training)
        for name in ("dft", "dft_blended")
    )
    assert blended == default.model_copy(update={"captions": "mixed", "caption_mixup": 0.7})


def test_full_holds_the_default_study():
    """The same arms under the same settings, so that DVC takes one's results for the other."""
    default, full = params.load(), params.load(ROOT / "profiles" / "full.yaml")
    for group in ("base", "prompts", "synthesis", "real", "finetune", "evaluate"):
        assert getattr(default, group) == getattr(full, group)
    assert {k: full.arms[k] for k in default.arms} == default.arms


@pytest.mark.parametrize("path", [ROOT / "params.yaml", *PROFILES], ids=lambda p: p.stem)
def test_every_arms_own_settings_are_valid(path):
    chosen = params.load(path)
    words = lexicon.load(chosen.evaluate.lexicon_folder)
    setting = Setting(
        1, chosen.base.target, {a: words.words(a) for a in chosen.base.target}, ("pilot",)
    )
    for arm in chosen.arms.values():
        recipes.settings_of(arm, chosen.finetune)
        open_intervention(arm.intervention, arm.draw, setting)


def test_the_control_has_the_treatments_steps_and_size():
    chosen = params.load()
    default, control = (
        params.training(chosen.finetune, chosen.arms[name].train, params.Training)
        for name in ("dft", "unbalanced")
    )
    assert control == default.model_copy(update={"images": "unbalanced"})


def test_gather_names_the_bad_variable():
    values = params.load().figures.model_dump() | {"sheet_images": "8", "unrelated": 1}
    with pytest.raises(ValueError, match="parameters cell: sheet_images"):
        params.gather(params.Figures, values)
