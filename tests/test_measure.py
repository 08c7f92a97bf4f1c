"""Measuring apart from drawing: from ratings alone, in the same bytes, without PyTorch."""

import shutil
import subprocess
import sys

import pytest

from dft_lib.repro import places
from dft_lib.repro.paths import NOTEBOOKS
from dft_lib.stages.figures import draw_figures
from dft_lib.stages.measure import measure
from dft_lib.study.params import whole

FIXTURES = NOTEBOOKS / "fixtures"
ARMS = ("base", "dft")


@pytest.fixture(scope="module")
def smoke():
    return whole.load_profile("smoke")


@pytest.fixture
def settings(smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "ROOT", tmp_path)
    places_of = {"ratings": str(FIXTURES / "evaluation"), "results": str(tmp_path / "results")}
    return smoke.measure.model_copy(update=places_of)


def test_results_are_those_of_the_fixtures(smoke, settings, tmp_path):
    """Made when `evaluate` wrote results/<arm>.*; 05 measured them."""
    measured = measure(smoke.base, settings, {name: smoke.arms[name] for name in ARMS})
    for known in sorted((FIXTURES / "results").iterdir()):
        assert (tmp_path / "results" / known.name).read_bytes() == known.read_bytes(), known.name
    assert measured.text == (FIXTURES / "results" / "table.md").read_text(encoding="utf-8")
    assert list(measured.table["arm"]) == list(ARMS)
    assert "against_base" in measured.metrics["arms"]["dft"]


def test_a_label_stands_where_params_say_it_now(smoke, settings):
    arms = {name: smoke.arms[name] for name in ARMS}
    arms["dft"] = arms["dft"].model_copy(update={"label": "renamed", "reference": True})
    measured = measure(smoke.base, settings, arms)
    assert "| renamed |" in measured.text and measured.metrics["arms"]["dft"]["label"] == "renamed"


def test_an_arm_without_ratings_says_what_to_run(smoke, settings):
    with pytest.raises(FileNotFoundError, match="run notebook 04_evaluate for unbalanced"):
        measure(smoke.base, settings, {"unbalanced": smoke.arms["unbalanced"]})


def test_figures_read_results_and_order_them_as_the_study_does(smoke, tmp_path, monkeypatch):
    """metrics.json is sorted: gender x skin tone before skin tone."""
    monkeypatch.setattr(places, "ROOT", tmp_path)
    found = {"ratings": str(FIXTURES / "evaluation"), "results": str(FIXTURES / "results")}
    sizes = {"sheet_professions": 1, "sheet_images": 2, "out": str(tmp_path / "figures")}
    settings = smoke.figures.model_copy(update=found | sizes)
    drawn = draw_figures(smoke.base, settings, {name: smoke.arms[name] for name in ARMS})
    assert list(drawn) == [
        "pareto",
        "gaps",
        "corrected",
        "shares_gender",
        "shares_skin_tone",
        "sheet",
    ]
    titles = [axis.get_title() for axis in drawn["corrected"].axes]
    assert titles == ["perceived gender", "perceived skin tone", "gender x skin tone"]
    written = {p.name for p in (tmp_path / "figures").iterdir()}
    assert written == {"headline.csv"} | {f"{n}.{k}" for n in drawn for k in ("pdf", "png")}
    empty = settings.model_copy(update={"results": str(tmp_path / "nothing")})
    with pytest.raises(FileNotFoundError, match="run notebook 04b_measure"):
        draw_figures(smoke.base, empty, {"base": smoke.arms["base"]})


@pytest.mark.parametrize("module", ["dft_lib.stages.measure", "dft_lib.evaluation.comparison"])
def test_measuring_loads_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_only_ratings_are_read(smoke, settings, tmp_path):
    """No shard of pictures is there, and none is missed."""
    bare = tmp_path / "bare"
    for arm in ARMS:
        (bare / arm).mkdir(parents=True)
        for name in ("ratings.parquet", "features.parquet", "about.json"):
            shutil.copyfile(FIXTURES / "evaluation" / arm / name, bare / arm / name)
    moved = settings.model_copy(update={"ratings": str(bare)})
    measure(smoke.base, moved, {name: smoke.arms[name] for name in ARMS})
    known = (FIXTURES / "results" / "metrics.json").read_bytes()
    assert (tmp_path / "results" / "metrics.json").read_bytes() == known
