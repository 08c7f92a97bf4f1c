"""The results table, the Pareto figure and the dose curve, on arms made up by hand."""

import importlib.util
import itertools
import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.transforms import Bbox

from dft_lib.evaluation import comparison, results_table
from dft_lib.evaluation.scales import normalised
from dft_lib.figures import gaps, pareto, style
from dft_lib.repro.files import write_table
from dft_lib.repro.paths import ROOT
from dft_lib.study import lexicon

ATTRIBUTES = lexicon.load().attributes

TARGET = {"gender": {"woman": 0.5, "man": 0.5},
          "skin_tone": dict.fromkeys("abcde", 0.2)}  # fmt: skip
P = {"one": 0.01, "two": 0.04, "three": 0.02}
HOLM = {"one": 0.03, "two": 0.04, "three": 0.04}  # 3 x .01; 2 x .02; then no less than before


def entry(value, width=0.05):
    return {"value": value, "low": max(value - width, 0), "high": value + width}


def part(gap, free, groups):
    """Make what ``metrics.json`` says of one part and attribute: `gap` and `free` on [0, 1]."""
    raw = {"value": 2 * gap / groups, "low": 0.0, "high": 2.0 / groups, "noise_floor": 0.05}
    root = entry(free / np.sqrt(groups / 2)) | {"noise_floor": 0.03}
    return {
        "shares": [1 / groups] * groups,
        "per_prompt": {"parity_gap": raw, "parity_gap_corrected": root},
        "null_band": {"per_prompt": {"parity_gap": [0.02, 0.1],
                                     "parity_gap_corrected": [0.0, 0.06]}},
    }  # fmt: skip


def make(arms, seed=0):
    """Make ``metrics.json`` and the summaries of `arms`, the first of which is the base model."""
    rng = np.random.default_rng(seed)
    measured, summaries = {"target": TARGET, "arms": {}}, {}
    for number, arm in enumerate(arms):
        neutral = {
            split: {a: part(rng.uniform(0, 0.8), rng.uniform(0, 0.8), len(g))
                    for a, g in TARGET.items()}
            for split in ("seen", "held_out")
        }  # fmt: skip
        effects = {
            "explicit": {a: entry(rng.uniform(0.5, 0.9)) for a in TARGET},
            "explicit_loss": entry(rng.uniform(0, 0.3) if number else 0.0),
            "general": entry(0.9),
            "role_accuracy": {
                "gender": {"difference": 0.1, "noise_floor": 0.03},
                "skin_tone": {"difference": None, "noise_floor": None},
            },
            "drift": {k: {"frechet_distance": 1.5, "kernel_distance": 2.5}
                      for k in ("explicit", "general")},
            "drop_out": {a: {"": {"unclear": 0.1, "no_person": 0.02}} for a in TARGET},
        }  # fmt: skip
        about = {"label": arm.upper(), "trained": number > 0}
        measured["arms"][arm] = {**about, "neutral": neutral, "side_effects": effects}
        cost = {"images_drawn": 4020, "images_trained": 1234567.0, "forward": 40200.0,
                "backward": 9600.0, "parameters": 1234567.0}  # fmt: skip
        summaries[arm] = {
            **about, "intervention": "none", "cost": cost if number else {},
            "evaluations_per_step": 1.0, "answers": {"images": 600},
            "explicit": {a: {"mean": 0.9, "per_seed": [0.9, 0.9, 0.9]} for a in TARGET},
        }  # fmt: skip
    tests = {
        arm: {"p": P[arm], "smallest_possible_p": 0.001, **entry(-0.3)} for arm in arms if arm in P
    }
    comparison._holm(tests)
    for arm, test in tests.items():
        both = {"gap": entry(-0.2), "squared_gap": test}
        measured["arms"][arm]["against_base"] = {
            "seen": dict.fromkeys(TARGET, both),
            "explicit": dict.fromkeys(TARGET, {"as_asked": test}),
        }
    return measured, summaries


@pytest.fixture(scope="module")
def made():
    return make(["base", *P])


@pytest.fixture
def minutes():
    rows = [
        ("synthesis", 2.0),
        ("finetune@one", 3.0),
        ("evaluate@one", 1.0),
        ("evaluate@base", 0.5),
    ]
    table = pd.DataFrame(rows, columns=["stage", "minutes"])
    return table.assign(profile="default", machine="a laptop", date="2026-01-01")


def test_numbers_are_those_of_the_json(made):
    measured, summaries = made
    table = results_table.results_table(measured, summaries).set_index("arm")
    assert list(table.index) == ["base", *P]
    for arm, attribute, split in itertools.product(table.index, TARGET, ("seen", "held_out")):
        found = measured["arms"][arm]["neutral"][split][attribute]["per_prompt"]
        k = len(TARGET[attribute])
        row = table.loc[arm]
        raw, free = found["parity_gap"], found["parity_gap_corrected"]
        for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
            assert row[f"{attribute}_gap_{split}{end}"] == pytest.approx(raw[key] * k / 2)
            shown = row[f"{attribute}_corrected_{split}{end}"]
            assert shown == pytest.approx(free[key] * (k / 2) ** 0.5)
        assert row[f"{attribute}_gap_{split}_fair_model"] == pytest.approx(0.05 * k / 2)
    effects = measured["arms"]["one"]["side_effects"]
    one = table.loc["one"]
    assert one["explicit_gender"] == effects["explicit"]["gender"]["value"]
    assert one["explicit_loss_high"] == effects["explicit_loss"]["high"]
    assert one["role_difference_gender_above_floor"] == pytest.approx(0.07)
    assert np.isnan(one["role_difference_skin_tone_above_floor"])
    assert one["drift_general_kernel"] == 2.5 and one["unclear_gender"] == 0.1
    assert one["no_person"] == 0.02


def test_holm(made):
    table = results_table.results_table(*made).set_index("arm")
    for name in ("gender_gap_seen_minus_base", "explicit_skin_tone_minus_base"):
        for arm, p in HOLM.items():
            assert table.loc[arm, f"{name}_p_holm"] == pytest.approx(p)
        assert np.isnan(table.loc["base", f"{name}_p_holm"])
        assert table.loc["one", f"{name}_least_p"] == pytest.approx(0.003)
    assert table.loc["two", "gender_gap_seen_minus_base"] == -0.2
    assert table.loc["two", "explicit_gender_minus_base"] == -0.3


def test_cost_of_untrained_arms_old_results_and_missing_minutes(made, minutes):
    measured, summaries = made
    summaries = summaries | {"two": {k: v for k, v in summaries["two"].items() if k != "cost"}}
    table = results_table.results_table(measured, summaries, minutes).set_index("arm")
    assert table.loc["base", ["seeds", *results_table.COUNTS[1:]]].tolist() == [0] * 6
    assert table.loc["one", "parameters"] == 1234567 and table.loc["one", "seeds"] == 3
    assert table.loc["two", list(results_table.COUNTS[1:])].isna().all()  # not known, not 0
    assert table.loc["one", "seconds_per_model"] == 60  # three minutes, three models
    assert table.loc["one", "seconds_per_image"] == pytest.approx(0.1)
    assert table.loc["base", "seconds_per_image"] == pytest.approx(0.05)
    assert np.isnan(table.loc["base", "seconds_per_model"])  # nothing measured
    assert table.loc["two", ["seconds_per_model", "seconds_per_image"]].isna().all()
    none = results_table.results_table(measured, summaries)
    assert none[["seconds_per_model", "seconds_per_image"]].isna().all(axis=None)


def test_minutes_file(tmp_path, minutes):
    assert results_table.read_minutes(tmp_path / "none.csv").empty
    minutes.drop(columns="machine").to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match="has no column 'machine'"):
        results_table.read_minutes(tmp_path / "a.csv")
    pd.concat([minutes, minutes[:1]]).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(ValueError, match="'synthesis' twice"):
        results_table.read_minutes(tmp_path / "b.csv")
    known = results_table.read_minutes(ROOT / "benchmarks" / "minutes.csv")
    assert {"synthesis", "finetune@dft", "evaluate@dft"} <= set(known["stage"])
    assert "figures" not in set(known["stage"])  # it reads the file: measuring would outdate it


def test_measured_stages_replace_their_lines(tmp_path, minutes):
    path = ROOT / "benchmarks" / "minutes.py"
    spec = importlib.util.spec_from_file_location("minutes", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    minutes.to_csv(tmp_path / "m.csv", index=False)
    about = {"profile": "full", "machine": "another", "date": "2026-02-02"}
    rows = [{"stage": "finetune@one", "minutes": 4.5, **about}]
    rows.append({"stage": "finetune@new", "minutes": 1.25, **about})
    module.record(tmp_path / "m.csv", rows)
    found = results_table.read_minutes(tmp_path / "m.csv").set_index("stage")["minutes"]
    assert found.to_dict() == {"synthesis": 2, "evaluate@one": 1, "evaluate@base": 0.5,
                               "finetune@one": 4.5, "finetune@new": 1.25}  # fmt: skip
    module.record(tmp_path / "new" / "m.csv", rows)
    assert len(results_table.read_minutes(tmp_path / "new" / "m.csv")) == 2


def test_markdown(made, minutes, tmp_path):
    measured, summaries = made
    table = results_table.results_table(measured, summaries, minutes)
    table.loc[table["arm"] == "three", "gender_gap_seen_minus_base_p_holm"] = 0.05
    text = results_table.as_markdown(table, minutes)
    lines = text.splitlines()
    head = next(line for line in lines if line.startswith("| arm"))
    starred = {line.split(" | ")[0][2:]: line.split(" | ")[1].count(r"\*")
               for line in lines[lines.index(head) + 2:][:4]}  # fmt: skip
    assert starred == {"BASE": 0, "ONE": 1, "TWO": 1, "THREE": 0}
    assert "over the 3 arms" in text and "a laptop, 2026-01-01" in text and "1,234,567" in text
    grids = [line.count("|") for line in lines if line.startswith("|")]
    assert len(set(grids[:6])) == len(set(grids[6:])) == 1
    value = table.loc[1, "gender_corrected_seen"]
    assert f"| ONE | {value:.2f} [" in text
    assert "were not measured" in results_table.as_markdown(table)
    table[[c for c in table if c.endswith("_least_p")]] = 0.2
    assert "no difference, however large" in results_table.as_markdown(table)
    write_table(tmp_path / "table.csv", table)
    again = pd.read_csv(tmp_path / "table.csv")
    assert again["parameters"].tolist() == [0, 1234567, 1234567, 1234567]


def test_metrics_file_is_the_same_numbers_in_fewer_lines(made, tmp_path):
    measured, _ = made
    comparison.write(tmp_path / "a.json", measured)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == measured
    assert text.count("\n") < json.dumps(measured, indent=1).count("\n") / 3
    assert text.index('"base"') < text.index('"one"')


def test_front_by_hand():
    nan = float("nan")
    points = {"a": (0.0, 5.0), "b": (1.0, 3.0), "worse": (1.0, 4.0), "c": (2.0, 1.0),
              "same as c": (2.0, 1.0), "beaten": (3.0, 1.0), "unknown": (0.0, nan)}  # fmt: skip
    assert pareto.front(points) == ["a", "b", "c", "same as c"]
    assert pareto.front({}) == []


def test_labels_keep_off_each_other_and_the_marks():
    rng = np.random.default_rng(1)
    spread, heap = rng.uniform(5, 195, (10, 2)), rng.normal((60, 120), 6, (15, 2))
    anchors = [(x, y) for x, y in np.concatenate([spread, heap])]
    room = Bbox.from_bounds(0, 0, 200, 160)
    anchors = [(x, min(y, 155)) for x, y in anchors]
    centres = pareto.place_labels(anchors, [(9.0, 6.2)] * 25, room)
    boxes = [Bbox.from_bounds(x - 4.5, y - 3.1, 9, 6.2) for x, y in centres]
    assert not [1 for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
    assert not [1 for b in boxes for x, y in anchors if b.contains(x, y)]
    assert all(room.x0 <= b.x0 and b.x1 <= room.x1 and room.y0 <= b.y0 for b in boxes)


def test_pareto_with_25_arms():
    names = ["base", *(f"arm{k}" for k in range(24))]
    measured, _ = make(names, seed=2)
    for name in names[1:8]:  # a heap of arms that did nothing
        for split, attribute in itertools.product(("seen", "held_out"), TARGET):
            same = measured["arms"]["base"]["neutral"][split][attribute]
            measured["arms"][name]["neutral"][split][attribute] = same
        measured["arms"][name]["side_effects"]["explicit_loss"] = entry(0.0)
    measured["arms"]["arm20"]["side_effects"]["explicit_loss"] = None
    families = {"controls": names[1:8], "DFT": names[8:20]}
    with plt.style.context(style.STYLE):
        named = {n: f"label of {n}" for n in names}
        figure = pareto.pareto(measured, named, families, ATTRIBUTES)
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()
        assert len(figure.axes) == 4
        for axis in figure.axes:
            texts = [t for t in axis.texts if t.get_text()]
            assert len(texts) == 24  # one arm's loss is not known
            assert min(t.get_fontsize() for t in texts) >= 6.5
            drawn = [plt.Text.get_window_extent(t, renderer) for t in texts]
            # shrunk by half a point: ink, not side bearings
            inner = [b.padded(-0.5 * figure.dpi / 72) for b in drawn]
            assert not [1 for a, b in itertools.combinations(inner, 2) if a.overlaps(b)]
        key = [t.get_text() for legend in figure.legends for t in legend.get_texts()]
        assert {"1  label of base", "25  label of arm23", "controls", "others"} <= set(key)
        plt.close(figure)


def test_families():
    looks = style.family_styles(["base", "a", "b", "c"], {"x": ["a"], "absent": ["z"], "y": ["b"]})
    assert [looks[n][0] for n in ("base", "a", "b", "c")] == ["base model", "x", "y", "others"]
    assert len({look[1:] for look in looks.values()}) == 4


def test_dose(made):
    measured, summaries = make(["base", "one", "two"])
    assert gaps.dose(measured, summaries, [], ATTRIBUTES) is None
    one = gaps.dose(measured, summaries, ["base", "one"], ATTRIBUTES)
    assert one is None  # one has no pictures
    summaries["two"]["cost"] = summaries["two"]["cost"] | {"images_trained": 270}
    figure = gaps.dose(measured, summaries, ["one", "two"], ATTRIBUTES)
    seen = next(line for line in figure.axes[0].lines if line.get_label() == "seen professions")
    expected = [
        normalised(measured, arm, "seen", "gender", corrected=True)["value"]
        for arm in ("two", "one")
    ]  # fewest pictures first
    assert list(seen.get_ydata()) == pytest.approx(expected)
    plt.close(figure)
