"""The command `dft fairness`: published counts come back; bad files get one clear sentence."""

import csv
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dft_lib import cli
from dft_lib.fairness import metrics
from dft_lib.fairness.counts import Counts, parse_target, read_counts
from dft_lib.fairness.report import fairness_report
from dft_lib.fairness.table import as_table
from dft_lib.repro.paths import ROOT

GOLDEN = ROOT.parent / "shared" / "golden"
PARTS = {"value", "low", "high", "noise_floor"}
NAMES = {
    "parity_gap", "parity_gap_corrected", "delta", "deviation_ratio", "kl_divergence",
    "fairness_discrepancy", "mean_absolute_deviation", "l1_distance", "l2_distance",
    "total_variation", "normalized_entropy", "min_max_ratio", "gap",
}  # fmt: skip
SMALL = "occupation,woman,man,note\nnurse,9,1,x\npilot,2,8,\njudge,5,5,y\n"


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text(SMALL, encoding="utf-8")
    return path


def run(capsys, *arguments):
    cli.main([str(a) for a in arguments])
    return capsys.readouterr().out


def fairness(capsys, path, *arguments):
    return json.loads(run(capsys, "fairness", path, "--json", *arguments))


def test_json_has_the_documented_shape(small, capsys):
    found = fairness(capsys, small, "--groups", "woman,man", "--by", "occupation", "--ordered")
    assert found["schema"] == 1 and found["groups"] == ["woman", "man"] and found["rows"] == 3
    for part in ("per_prompt", "pooled"):
        assert found[part].keys() == NAMES | {"wasserstein_1"}
        assert all(entry.keys() == PARTS for entry in found[part].values())
        assert found["null_band"][part].keys() == found[part].keys()
    gap = found["per_prompt"]["parity_gap"]
    assert gap["value"] == pytest.approx((0.8 + 0.6 + 0) / 3)
    assert gap["low"] <= gap["value"] <= gap["high"]
    assert gap["noise_floor"] == pytest.approx(0.2461, abs=0.02)
    pooled = found["pooled"]
    assert pooled["parity_gap"]["value"] == pytest.approx(abs(16 - 14) / 30, abs=1e-6)
    assert pooled["parity_gap_corrected"]["value"] is None
    assert found["metrics"].keys() == found["pooled"].keys() == metrics.METRICS.keys()


def test_the_table_is_readable(small, capsys):
    shown = run(capsys, "fairness", small, "--groups", "woman,man", "--by", "occupation")
    assert "3 rows, 3 prompts, 10 to 10 images each" in shown
    assert max(len(line) for line in shown.splitlines() if "note:" not in line) <= 120
    assert "too few for an interval" in shown and "cannot reach p < .05" in shown


PUBLISHED = {
    "sd15_base": {
        "parity_gap": 0.6229, "kl_divergence": 0.3058, "fairness_discrepancy": 0.4404,
        "mean_absolute_deviation": 0.3114, "min_max_ratio": 0.2886,
        "parity_gap_corrected": math.sqrt(0.49023), "pooled share": 0.4483, "pooled kl": 0.00536,
        "interval": (0.571, 0.673),
    },
    "sd15_fair_diffusion": {
        "parity_gap": 0.2097, "kl_divergence": 0.0371, "fairness_discrepancy": 0.1483,
        "mean_absolute_deviation": 0.1048, "min_max_ratio": 0.6822,
        "parity_gap_corrected": math.sqrt(0.06764), "pooled share": 0.5327, "pooled kl": 0.00214,
        "interval": (0.183, 0.236),
    },
    "laion": {
        "parity_gap": 0.5159, "kl_divergence": 0.1934, "fairness_discrepancy": 0.3648,
        "mean_absolute_deviation": 0.2579, "min_max_ratio": 0.3660, "pooled share": 0.4661,
        "pooled kl": 0.00230,
    },
}  # fmt: skip


@pytest.mark.skipif(not GOLDEN.exists(), reason="the published counts are not here")
@pytest.mark.parametrize("which", PUBLISHED)
def test_published_counts_come_back(which, capsys):
    wanted = PUBLISHED[which]
    found = fairness(
        capsys, GOLDEN / "fair_diffusion_counts.csv", "--groups", "woman,man",
        "--by", "occupation", "--where", f"set={which}",
    )  # fmt: skip
    assert found["rows"] == found["prompts"] == 153
    assert found["shares"][0] == pytest.approx(wanted["pooled share"], abs=5e-5)
    assert found["pooled"]["kl_divergence"]["value"] == pytest.approx(
        wanted["pooled kl"], abs=5e-6
    )
    for name in NAMES & wanted.keys():
        assert found["per_prompt"][name]["value"] == pytest.approx(wanted[name], abs=6e-5), name
    if "interval" in wanted:
        gap = found["per_prompt"]["parity_gap"]
        assert (gap["low"], gap["high"]) == pytest.approx(wanted["interval"], abs=0.003)
    else:
        assert any("one image" in note for note in found["notes"])


@pytest.mark.skipif(not GOLDEN.exists(), reason="the published shares are not here")
@pytest.mark.parametrize(
    ("column", "wanted", "kl"),
    [
        ("Original", 0.6195, 0.2934), ("CA Original", 0.3508, 0.1111),
        ("DVL Original", 0.5389, 0.2113),
    ],
)  # fmt: skip
def test_published_shares_come_back(column, wanted, kl, capsys):
    found = fairness(
        capsys, GOLDEN / "biases_compare.csv", "--groups", column, "--rest", "not male",
        "--by", "Profession",
    )  # fmt: skip
    assert found["rows"] == 37 and found["images"] is None
    assert found["per_prompt"]["delta"]["value"] == pytest.approx(wanted, abs=5e-5)
    assert found["per_prompt"]["kl_divergence"]["value"] == pytest.approx(kl, abs=5e-5)
    assert found["per_prompt"]["delta"]["noise_floor"] is None
    assert found["per_prompt"]["parity_gap_corrected"]["value"] is None
    with_images = fairness(
        capsys, GOLDEN / "biases_compare.csv", "--groups", column, "--rest", "not male",
        "--by", "Profession", "--images", "100",
    )  # fmt: skip
    assert with_images["per_prompt"]["delta"]["noise_floor"] == pytest.approx(0.0796, abs=5e-3)


def test_restated_published_rows(tmp_path, capsys):
    """Without the published files: one row of each, and their numbers."""
    path = tmp_path / "a.csv"
    path.write_text("set,occupation,man,woman,no_face\nbase,accountant,166,84,0\n")
    found = fairness(capsys, path, "--groups", "woman,man", "--by", "occupation")
    for name, wanted in [("parity_gap", 0.328), ("kl_divergence", 0.0548), ("delta", 0.328),
                         ("min_max_ratio", 0.50602)]:  # fmt: skip
        for part in ("per_prompt", "pooled"):
            assert found[part][name]["value"] == pytest.approx(wanted, abs=1e-5)
            assert found[part][name]["low"] is None
    assert found["per_prompt"]["parity_gap_corrected"]["value"] is None


def test_rows_of_a_prompt_are_added_up_and_seeds_are_not(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("job;seed;a;b\nx;0;9;1\nx;1;1;9\ny;0;5;5\ny;1;5;5\n", encoding="utf-8-sig")
    together = fairness(capsys, path, "--groups", "a,b", "--by", "job")
    assert together["per_prompt"]["parity_gap"]["value"] == 0
    apart = fairness(capsys, path, "--groups", "a,b", "--by", "job", "--seeds", "seed")
    assert apart["per_prompt"]["parity_gap"]["value"] == pytest.approx(0.4)
    assert apart["seeds"] == 2 and apart["prompts"] == 2 and apart["rows"] == 4


def test_targets(small, capsys):
    options = ["--groups", "woman,man", "--by", "occupation"]
    named = fairness(capsys, small, *options, "--target", "man=0.4,woman=0.6")
    listed = fairness(capsys, small, *options, "--target", "0.6, 0.4")
    assert named == listed and named["target"] == [0.6, 0.4]
    wanted = metrics.total_variation([[9, 1], [2, 8], [5, 5]], [0.6, 0.4]).mean()
    assert named["per_prompt"]["total_variation"]["value"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (SMALL, ["--groups", "woman,men", "--by", "occupation"],
         "no column 'men' (did you mean 'man'?); its columns are: occupation, woman, man, note"),
        (SMALL, ["--groups", "woman,man", "--by", "job"], "no column 'job'"),
        (SMALL, ["--groups", "woman", "--by", "occupation"], "one group (woman) cannot be"),
        (SMALL, ["--groups", "woman,woman", "--by", "occupation"], "a group is named twice"),
        (SMALL, ["--groups", "woman,note", "--by", "occupation"],
         "line 2, column 'note': 'x' is no number"),
        (SMALL, ["--groups", "woman,man", "--by", "note"], "line 3, column 'note' is empty"),
        (SMALL, ["--groups", "woman,man", "--by", "woman"], "the prompt and a group at once"),
        (SMALL, ["--groups", "woman,man", "--by", "occupation", "--target", "0.5,0.6"],
         "--target sums to 1.1"),
        (SMALL, ["--groups", "woman,man", "--by", "occupation", "--target", "0.5"],
         "1 shares for 2 groups"),
        (SMALL, ["--groups", "woman,man", "--by", "occupation", "--target", "woman=1,man=0"],
         "every share must be above 0"),
        (SMALL, ["--groups", "woman,man", "--by", "occupation", "--target", "woman=1,dog=0"],
         "give every group of woman, man once"),
        (SMALL, ["--groups", "woman,man", "--by", "occupation", "--where", "note=z"],
         "no row has note=z"),
        (SMALL, ["--groups", "woman,man", "--by", "occupation", "--delta-group", "dog"],
         "--delta-group 'dog' is not among woman, man"),
        (SMALL, ["--groups", "woman,man", "--by", "occupation", "--images", "10"],
         "these are counts already"),
        (SMALL, ["--groups", "woman", "--rest", "man", "--by", "occupation"],
         "--rest needs shares, but woman sum to 9"),
        ("", ["--groups", "a,b", "--by", "p"], "is empty"),
        ("p,a,b\n", ["--groups", "a,b", "--by", "p"], "a header and no rows"),
        ("p,a,a,b\n", ["--groups", "a,b", "--by", "p"], "names column 'a' twice"),
        ("p,a,b\nx,-1,2\n", ["--groups", "a,b", "--by", "p"],
         "line 2, column 'a': -1 is negative"),
        ("p,a,b\nx,1,2\ny,nan,2\n", ["--groups", "a,b", "--by", "p"],
         "line 3, column 'a': 'nan' is no count"),
        ("p,a,b\nx,1\n", ["--groups", "a,b", "--by", "p"], "line 2, column 'b' is empty"),
        ('p,a,b\n"x,1,2\n', ["--groups", "a,b", "--by", "p"], "mend the quotes"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(text, options, sentence, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fairness", str(path), *options])
    message = str(stopped.value)
    assert sentence in message and message.startswith("dft fairness: ")
    assert "\n" not in message


def test_other_bad_files(tmp_path):
    (tmp_path / "latin.csv").write_bytes("métier,a,b\nx,1,2\n".encode("latin-1"))
    for name, sentence in [
        ("latin.csv", "no UTF-8 text"), ("none.csv", "no such file"), ("", "is a folder"),
    ]:  # fmt: skip
        with pytest.raises(SystemExit, match=sentence):
            cli.main(["fairness", str(tmp_path / name), "--groups", "a,b", "--by", "p"])


def test_all_unclear_is_a_defined_result(tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("p,a,b\nx,0,0\ny,0,0\n")
    found = fairness(capsys, path, "--groups", "a,b", "--by", "p")
    assert found["prompts_without_images"] == 2
    assert all(v is None for e in found["per_prompt"].values() for v in e.values())
    assert "nothing can be said" in " ".join(found["notes"])
    assert "-" in run(capsys, "fairness", path, "--groups", "a,b", "--by", "p")


counts = st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(counts)
def test_any_counts_give_a_report(rows):
    prompts = tuple(f"p{i}" for i in range(len(rows)))
    values = np.array(rows, float)[:, None]
    table = Counts(("a", "b", "c"), prompts, ("",), values, len(rows), True)
    report = fairness_report(table, ordered=True, draws=200)
    json.dumps(report, allow_nan=False)
    as_table(report)
    usable = values[values.sum((1, 2)) > 0, 0]
    assert report["prompts_without_images"] == len(rows) - len(usable)
    for name, metric in metrics.METRICS.items():
        if metric.squares is not None:
            continue
        value = report["per_prompt"][name]["value"]
        assert (value is None) == (len(usable) == 0)
        if value is not None:
            assert value == pytest.approx(metric(usable).mean(), abs=1e-6)
            floor = report["per_prompt"][name]["noise_floor"]
            band = report["null_band"]["per_prompt"][name]
            assert floor is not None and band[0] <= band[1]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(st.text(max_size=6), max_size=5), max_size=6))
def test_any_text_is_read_or_refused_in_one_sentence(tmp_path, rows):
    path = tmp_path / "any.csv"
    with open(path, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["p", "a", "b"], *rows])
    try:
        read = read_counts(path, ["a", "b"], "p")
    except ValueError as error:
        assert "any.csv" in str(error)
    else:
        assert np.isfinite(read.values).all() and read.rows >= 1


def test_target_reading():
    assert parse_target(None, ["a", "b"]) is None
    assert parse_target("b=.25,a=.75", ["a", "b"]).tolist() == [0.75, 0.25]


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fairness", "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "dft fairness counts.csv --groups woman,man --by occupation" in shown


def test_the_command_loads_neither_torch_nor_pandas(small):
    code = (
        "import sys; from dft_lib import cli; "
        f"cli.main(['fairness', {str(small)!r}, '--groups', 'woman,man', '--by', 'occupation']); "
        "print(sorted({'torch', 'pandas', 'matplotlib', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
