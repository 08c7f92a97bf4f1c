import re

import pytest

from dft_lib.interventions.base import Setting, open_intervention
from dft_lib.repro.paths import ROOT
from dft_lib.runner import notebook
from dft_lib.study import arms, lexicon
from dft_lib.study.arms import ArmSampling, ArmTraining, part
from dft_lib.study.params import whole
from dft_lib.study.params.figures import Figures
from dft_lib.study.schema import gather
from dft_lib.study.training import Training, training
from dft_lib.training import job as recipes

TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")
PROFILES = [p.stem for p in sorted((ROOT / "profiles").glob("*.yaml"))]


def study_of(profile):
    return whole.load_profile(profile) if profile else whole.load()


@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_every_profile_is_valid(profile):
    study_of(profile)


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
        ("recipe: none", "recipe: 'no ne'", r"arms.base.recipe: string should match"),
        ("train: {}", "train: {rank: 4}", r"arms.base.train has settings, but nothing takes them"),
        ("target: null", "target: {gender: {woman: 0.6, man: 0.6}}", r"target.gender sums to 1.2"),
        ("\n  dft:", "\n  'd; rm x':", r"arms has the name 'd; rm x': use small letters"),
        ("\n  dft:", '\n  "dft\\n":', r"arms has the name 'dft.n': use small letters"),
        ("\n  dft:", "\n  2dft:", r"arms has the name '2dft': use small letters"),
        ("\n  dft:", "\n  ../dft:", r"arms has the name '../dft': use small letters"),
        ("\n  dft:", "\n  metrics:", r"'metrics', and results/metrics is another file"),
        ("label: DFT\n", "label: base model\n", r"arms has the label 'base model' twice"),
        ("label: DFT\n", "label: 'a|b'\n", r"arms.dft.label: string should match"),
        ("shown: 4", "shown: true", r"arms.dft.shown: input should be a valid integer"),
        ("shown: 4", "show: 4", r"arms.dft.show is no parameter"),
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
        (
            "    skin_tone: palette\n",
            "",
            r"base.target.skin_tone has no rater: name one under judge",
        ),
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
        ("  results: results", "  results: a/../../results", r"measure.results is"),
        ("scheduler: ddim", "scheduler: euler", r"base.scheduler: input should be 'ddim'"),
    ],
)
def test_bad_values_stop_with_one_sentence(tmp_path, old, new, sentence):
    assert old in TEXT
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ValueError) as error:
        whole.load(path)
    message = str(error.value)
    assert "\n" not in message
    assert "params.yaml" in message
    assert re.search(sentence, message), message


def test_missing_group_and_file(tmp_path):
    path = tmp_path / "params.yaml"
    with pytest.raises(FileNotFoundError, match="git checkout"):
        whole.load(path)
    path.write_text(TEXT[: TEXT.index("arms:")], encoding="utf-8")
    with pytest.raises(ValueError, match="arms is missing"):
        whole.load(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no parameters"):
        whole.load(path)


def test_numbers_in_exponent_form_are_numbers(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r"learning_rate: \S+", "learning_rate: 1e-4", TEXT), encoding="utf-8")
    assert whole.load(path).finetune.learning_rate == pytest.approx(1e-4)


def test_an_arm_changes_only_what_it_names():
    chosen = whole.load()
    default, blended = (
        training(chosen.finetune, chosen.arms[name].train, Training)
        for name in ("dft", "dft_blended")
    )
    assert blended == default.model_copy(update={"captions": "mixed", "caption_mixup": 0.7})


def test_full_holds_the_default_study():
    """The same arms under the same settings, so that DVC takes one's results for the other."""
    default, full = whole.load(), whole.load_profile("full")
    for group in ("base", "prompts", "synthesis", "real", "finetune", "evaluate"):
        assert getattr(default, group) == getattr(full, group)
    for name, arm in default.arms.items():
        for kind in (ArmTraining, ArmSampling):
            assert part(full.arms[name], kind) == part(arm, kind)


@pytest.mark.parametrize("profile", [None, *PROFILES])
def test_every_arms_own_settings_are_valid(profile):
    chosen = study_of(profile)
    setting = Setting.of(chosen.base, lexicon.load(chosen.base.lexicon_folder))
    for arm in chosen.arms.values():
        recipes.settings_of(arm, chosen.finetune)
        open_intervention(arm.intervention, arm.draw, setting)


def test_the_control_has_the_treatments_steps_and_size():
    chosen = whole.load()
    default, control = (
        training(chosen.finetune, chosen.arms[name].train, Training)
        for name in ("dft", "unbalanced")
    )
    assert control == default.model_copy(update={"images": "unbalanced"})


def test_gather_names_the_bad_variable():
    values = whole.load().figures.model_dump() | {"sheet_images": "8", "unrelated": 1}
    with pytest.raises(ValueError, match="parameters cell: sheet_images"):
        gather(Figures, values)


def test_how_an_arm_is_shown_is_derived_from_it_alone(tmp_path):
    """What stood in lists of ``figures``; the order and the families' order decide on colours."""
    chosen = arms.families(whole.load().arms)
    assert list(chosen) == ["controls", "no training", "DFT"]
    assert chosen["DFT"] == ["dft", "dft_blended"]
    assert list(arms.shown(whole.load().arms)) == ["base", "unbalanced", "dft_blended", "dft"]
    assert arms.references(whole.load().arms) == ["base", "unbalanced", "dft"]
    assert arms.dose(whole.load().arms) == []
    full = whole.load_profile("full").arms
    assert list(arms.shown(full)) == [
        "base", "unbalanced", "fair_guidance", "alignment", "dft_mixed", "dft",
    ]  # fmt: skip
    assert list(arms.families(full)) == [
        "controls", "no training", "other training or editing", "DFT",
    ]  # fmt: skip
    assert arms.dose(full) == ["dft", "dft_ninth", "dft_third"]
    assert list(full)[2:6] == [
        "ethical_intervention", "diverse_prompt", "fair_guidance", "concept_editing",
    ]  # fmt: skip


def test_an_arm_more_is_one_entry(tmp_path):
    """It stands in every table and figure without a word elsewhere."""
    path = tmp_path / "params.yaml"
    path.write_text(
        TEXT + "  new:\n    label: new\n    recipe: denoising\n    data: synthetic/images\n"
        "    train: {rank: 8}\n    intervention: none\n    draw: {}\n",
        encoding="utf-8",
    )
    chosen = whole.load(path)
    for name in ("04b_measure", "05_figures"):
        assert notebook.values_for(name, None, chosen)["arms"]["new"]["label"] == "new"
    assert set(notebook.values_for("03_finetune", "new", chosen)) >= {"arm", "recipe", "train"}
