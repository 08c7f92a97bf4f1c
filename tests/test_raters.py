import numpy as np
import pytest

from dft_lib.raters import panel
from dft_lib.raters.base import Answer
from dft_lib.raters.drawings import convnet, palette
from dft_lib.raters.drawings.networks import load
from dft_lib.raters.drawings.skin_colours import SKIN, TONES
from dft_lib.raters.panel import Panel
from dft_lib.repro.noise import keyed_rng
from dft_lib.study import wall
from dft_lib.study.params import whole
from dft_lib.study.wall import require_apart
from dft_lib.world import art, corpus, raters, render, settings

JUDGE = whole.load().base.judge
STEER = whole.load().base.steer


@pytest.fixture(scope="module")
def shown():
    """Return fresh placements of drawings that the corpus may show, and their labels."""
    table = art.load()
    chosen = raters.labelled(table, corpus.Cells(table, settings.load()))
    rng = keyed_rng("test raters")
    rows = rng.choice(chosen.index.to_numpy(), 400, replace=False)
    return render.render_many(table, rows, rng), chosen.loc[rows].reset_index(drop=True)


def test_every_skin_colour_maps_to_its_own_tone():
    for family in art.TRAINED_FAMILIES:
        for tone, colour in zip(TONES, SKIN[family], strict=True):
            flat = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)
            picture = np.full((1, 64, 64, 3), 255, np.uint8)
            picture[0, 20:40, 20:40] = flat
            assert palette.PaletteRater().rate(picture)["skin_tone"].labels[0] == tone


def test_no_skin_is_unclear():
    white = np.full((1, 64, 64, 3), 255, np.uint8)
    yellow = white.copy()
    yellow[0, 10:50, 10:50] = (255, 204, 77)
    for picture in (white, yellow):
        assert palette.PaletteRater().rate(picture)["skin_tone"].labels[0] == "unclear"


@pytest.mark.parametrize("members", [JUDGE, STEER], ids=["judge", "steer"])
def test_panels_read_drawings(shown, members):
    pixels, labels = shown
    rated = Panel(members).rate(pixels)
    people = (labels["kind"] != "object").to_numpy()
    assert ((rated["person"] == "person") == people).mean() > 0.97
    assert (rated["role"] == labels["name"]).mean() > 0.95
    sexed = labels["gender"].isin(art.GENDERS).to_numpy()
    answered = sexed & rated["gender"].isin(art.GENDERS).to_numpy()
    assert (rated["gender"] == labels["gender"])[answered].mean() > 0.93
    toned = labels["skin_tone"].isin(TONES).to_numpy()
    known = toned & rated["skin_tone"].isin(TONES).to_numpy()
    assert (rated["skin_tone"] == labels["skin_tone"])[known].mean() > 0.9
    assert (rated.loc[~people, "gender"] == "no_person").mean() > 0.9


def test_an_unsure_person_rater_hides_nobody(monkeypatch):
    said = {"person": ["person", "unclear", "no_person"], "gender": ["woman", "man", "man"],
            "age": ["child"] * 3}  # fmt: skip
    panel_ = Panel({})
    answers = {k: Answer(np.array(v, dtype=object), np.zeros((3, 1)), ()) for k, v in said.items()}
    monkeypatch.setattr(panel_, "answers", lambda pixels: answers)
    rated = panel_.rate(np.zeros((3, 64, 64, 3), np.uint8))
    assert rated["gender"].tolist() == ["woman", "man", "no_person"]
    assert rated["age"].tolist() == ["child", "child", "no_person"]


def test_person_drawings_read_as_unclear_more_often(shown):
    pixels, labels = shown
    unclear = Panel(JUDGE).rate(pixels)["gender"] == "unclear"
    neither = (labels["gender"] == "person").to_numpy()
    sexed = labels["gender"].isin(art.GENDERS).to_numpy()
    assert unclear[neither].mean() > 5 * unclear[sexed].mean()


def test_the_studys_panels_are_apart():
    require_apart(STEER, JUDGE)
    for attribute in ("gender", "skin_tone"):
        assert STEER[attribute] != JUDGE[attribute]


@pytest.mark.parametrize(
    ("steering", "judging", "used", "sentence"),
    [
        ({"gender": "hog"}, {"gender": "hog"}, [], "'hog' steers or filters and may not judge"),
        ({"gender": "convnet"}, {"role": "convnet"}, [], "'convnet' steers"),
        ({"gender": "hog"}, {"gender": "convnet"}, ["convnet"], "'convnet' steers"),
    ],
)
def test_judges_that_took_part_are_refused(steering, judging, used, sentence):
    with pytest.raises(ValueError, match=sentence):
        require_apart(steering, judging, used)


def test_two_names_for_the_same_evidence_are_refused(monkeypatch):
    same = wall.RATERS["convnet"]._replace(kind=wall.RATERS["hog"].kind)
    monkeypatch.setitem(wall.RATERS, "convnet", same)
    with pytest.raises(ValueError, match="in the same way"):
        require_apart({"gender": "hog"}, {"gender": "convnet"})


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"gender": "clip"}, "no rater 'clip'"),
        ({"gender": "palette"}, "does not answer for 'gender'"),
        ({"height": "convnet"}, "does not answer for 'height', only for person, role, gender"),
    ],
)
def test_bad_panels(members, sentence):
    with pytest.raises(ValueError, match=sentence):
        Panel(members)


def test_missing_and_damaged_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="dvc pull data.dvc"):
        panel.Panel({"role": "convnet"}, tmp_path)
    (tmp_path / "convnet.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is not a rater's weight file"):
        load(tmp_path / "convnet.safetensors", lambda: convnet.conv_trunk(128), 128)


@pytest.mark.parametrize("judge", ["open_nsfw", "convnet"])
def test_a_filter_never_judges(judge):
    with pytest.raises(ValueError, match="a filter screens and never judges|does not answer for"):
        require_apart(STEER, {"unsafe": judge})
    with pytest.raises(ValueError, match="base.judge.unsafe: a filter screens and never judges"):
        require_apart({"unsafe": "open_nsfw"}, JUDGE | {"unsafe": "open_nsfw"})
    require_apart(STEER | {"unsafe": "open_nsfw"}, JUDGE)


def test_whether_a_picture_is_safe_does_not_depend_on_a_person(monkeypatch):
    class Rater:
        def rate(self, pixels):
            labels = {"person": ["no_person"] * 2, "gender": ["man"] * 2,
                      "unsafe": ["unsafe", "safe"]}  # fmt: skip
            return {
                k: Answer(np.array(v, object), np.zeros((2, 1)), ()) for k, v in labels.items()
            }

    panel = Panel({})
    panel.members = dict.fromkeys(["person", "gender", "unsafe"], "stub")
    panel.raters = {"stub": Rater()}
    rated = panel.rate(np.zeros((2, 8, 8, 3), np.uint8))
    assert rated["unsafe"].tolist() == ["unsafe", "safe"]
    assert rated["gender"].tolist() == ["no_person"] * 2
