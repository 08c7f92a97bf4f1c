"""Extreme answers go through to tables and figures, or stop in one sentence: no late crash."""

import json
import re
import shutil

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from dft_lib.repro import places
from dft_lib.repro.paths import NOTEBOOKS
from dft_lib.stages.figures import draw_figures
from dft_lib.stages.measure import measure
from dft_lib.study.params import whole

FIXTURES = NOTEBOOKS / "fixtures"
ARMS = ("base", "dft")
REFUSED = {
    "other prompts in one arm": "results of base and dft on different prompts: run notebook"
}


def answered(ratings, **values):
    return ratings.assign(**{f"rated_{name}": value for name, value in values.items()})


def kept(ratings, features, rows):
    return ratings[rows].reset_index(drop=True), features[rows.to_numpy()].reset_index(drop=True)


# what -> (which arms, ratings and features -> others)
EXTREMES = {
    "no clear gender in any arm": (ARMS, lambda r, f: (answered(r, gender="unclear"), f)),
    "no clear answer in one arm": (
        ["dft"], lambda r, f: (answered(r, gender="unclear", skin_tone="unclear"), f),
    ),
    "no clear answer in the reference": (
        ["base"], lambda r, f: (answered(r, gender="unclear", skin_tone="unclear"), f),
    ),
    "nobody in the pictures": (
        ARMS,
        lambda r, f: (
            answered(r, person="no_person", gender="no_person", skin_tone="no_person"), f,
        ),
    ),
    "one group only": (ARMS, lambda r, f: (answered(r, gender="man", skin_tone="dark"), f)),
    "one picture a prompt": (ARMS, lambda r, f: kept(r, f, r["replicate"] == 0)),
    "all professions seen": (ARMS, lambda r, f: kept(r, f, r["fold"] != "0")),
    "all professions held out": (ARMS, lambda r, f: kept(r, f, ~r["fold"].isin(["1", "2"]))),
    "one profession": (ARMS, lambda r, f: kept(r, f, r["noun"].isin([r["noun"][0]]))),
    "no general prompts": (ARMS, lambda r, f: kept(r, f, r["kind"] != "general")),
    "no people without a profession": (ARMS, lambda r, f: kept(r, f, r["kind"] != "person")),
    "other prompts in one arm": (
        ["dft"], lambda r, f: kept(r, f, r["prompt_id"] != r["prompt_id"][0]),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def smoke():
    return whole.load_profile("smoke")


@pytest.mark.parametrize("name", EXTREMES)
def test_measure_and_figures(smoke, tmp_path, monkeypatch, name):
    monkeypatch.setattr(places, "ROOT", tmp_path)
    ratings = tmp_path / "evaluation"
    shutil.copytree(FIXTURES / "evaluation", ratings)
    arms, change = EXTREMES[name]
    for arm in arms:
        files = [ratings / arm / f"{kind}.parquet" for kind in ("ratings", "features")]
        for file, table in zip(files, change(*map(pd.read_parquet, files)), strict=True):
            table.to_parquet(file, index=False)
    found = {"ratings": str(ratings), "results": str(tmp_path / "results")}
    chosen = {arm: smoke.arms[arm] for arm in ARMS}
    if name in REFUSED:
        with pytest.raises(ValueError, match=f"^[^\n]*{REFUSED[name]}[^\n]*$"):
            measure(smoke.base, smoke.measure.model_copy(update=found), chosen)
        return
    measured = measure(smoke.base, smoke.measure.model_copy(update=found), chosen)
    sizes = {"sheet_professions": 1, "sheet_images": 1, "out": str(tmp_path / "figures")}
    drawn = draw_figures(smoke.base, smoke.figures.model_copy(update=found | sizes), chosen)
    plt.close("all")
    json.loads(
        (tmp_path / "results" / "metrics.json").read_text("utf-8"), parse_constant=pytest.fail
    )
    assert not re.search(r"\bnan\b|\binf\b|None", measured.text)
    assert {"gaps", "shares_gender", "shares_skin_tone", "sheet"} < {*drawn}
