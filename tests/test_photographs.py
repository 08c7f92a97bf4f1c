"""Photographs from strangers: what is opened, how, and what stops with one sentence."""

from __future__ import annotations

import io
import json
import warnings
import zlib
from hashlib import sha256

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dft_lib.image_sets import parquet, photographs, picture_files
from dft_lib.image_sets.picture_files import open_picture, square
from dft_lib.repro import places, shards, workspace
from dft_lib.repro.files import write_table
from dft_lib.stages.real import collect_real
from dft_lib.study import lexicon, prompts
from dft_lib.study.params import whole

SIDE = 16
HALVES = np.zeros((SIDE, SIDE, 3), np.uint8)  # white above, black below
HALVES[: SIDE // 2] = 255
GROUPS = {"gender": ["woman", "man"], "skin_tone": ["light", "dark"]}


def encoded(picture, kind="PNG", **options):
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(tag, **options):
    exif = Image.Exif()
    exif[0x0112] = tag
    return encoded(Image.fromarray(HALVES), "JPEG", exif=exif, quality=95, **options)


def means(data):
    pixels = open_picture(data).pixels
    assert pixels.dtype == np.uint8 and pixels.shape == (SIDE, SIDE, 3)
    return pixels[:4].mean(), pixels[-4:].mean(), pixels[:, :4].mean(), pixels[:, -4:].mean()


# where the white half must lie, by EXIF orientation of a picture stored with white above
@pytest.mark.parametrize(("tag", "white"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 3),
                                            (7, 3), (8, 2), (0, 0), (9, 0)])  # fmt: skip
def test_orientation_is_carried_out(tag, white):
    found = means(turned(tag))
    assert found[white] > 240 and found[white ^ 1] < 15


def test_damaged_exif_counts_as_upright():
    data = turned(6)
    assert b"MM\x00*" in data
    for wrong in (b"XX\x00*", b"MM\xff\xff"):
        assert means(data.replace(b"MM\x00*", wrong))[0] > 240


RAMP = np.repeat(np.linspace(0, 65535, SIDE).astype(np.uint16)[:, None], SIDE, 1)


def test_16_bits_become_8_by_division():
    grey = open_picture(encoded(RAMP)).pixels
    assert (grey == (RAMP // 256)[..., None]).all() and len(np.unique(grey)) == SIDE
    clear = open_picture(encoded(Image.fromarray(RAMP), transparency=0)).pixels
    assert (clear[0] == 255).all() and (clear[1:] == grey[1:]).all()


def test_16_bit_colours_become_8_by_division():
    header = b"IHDR" + (SIDE).to_bytes(4) * 2 + bytes([16, 2, 0, 0, 0])
    line = b"\0" + b"".join(int(v).to_bytes(2) for v in np.repeat(RAMP[:, 0], 3))

    def chunk(body):
        return (len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)

    parts = [header, b"IDAT" + zlib.compress(line * SIDE), b"IEND"]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, parts))
    assert (open_picture(data).pixels == (RAMP.T // 256)[..., None]).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    image = Image.fromarray(HALVES).convert(mode)
    found = means(encoded(image, "JPEG", quality=95) if mode == "CMYK" else encoded(image))
    assert found[0] > 250 and found[1] < 5


def test_transparency_lies_on_white():
    clear = np.zeros((SIDE, SIDE, 4), np.uint8)
    clear[SIDE // 2 :, :, 3] = 255
    palette = Image.fromarray(np.repeat([[0], [1]], SIDE // 2, 0).repeat(SIDE, 1).astype("u1"))
    palette.putpalette([200, 0, 0, 0, 0, 0])
    for data in (
        encoded(clear), encoded(clear[..., 2:]), encoded(clear, "WEBP", lossless=True),
        encoded(palette, transparency=0), encoded(palette, transparency=bytes([0, 255])),
        encoded(Image.fromarray(clear[..., 3]), transparency=0),
        encoded(Image.fromarray(clear[..., :3] + clear[..., 3:] // 255), transparency=(0, 0, 0)),
    ):  # fmt: skip
        assert means(data)[0] == 255
    half = np.full((SIDE, SIDE, 4), (0, 0, 0, 128), np.uint8)
    assert abs(int(open_picture(encoded(half)).pixels[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_the_first_frame_of_an_animation_is_taken(kind):
    more = [Image.fromarray(255 - HALVES), Image.fromarray(HALVES // 2)]
    data = encoded(HALVES, kind, save_all=True, append_images=more, lossless=True)
    assert open_picture(data).frames == 3
    assert means(data)[0] > 250


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (EPS, "is no PNG, JPEG or WebP file"),
        (encoded(HALVES, "GIF"), "is no PNG, JPEG or WebP"),
        (encoded(HALVES, "TIFF"), "is no PNG, JPEG or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no PNG, JPEG or WebP"),
        (b"https://example.org/a.jpg", "is no PNG, JPEG or WebP"),
        (encoded(HALVES)[:-20], "is damaged"),
        (encoded(HALVES, "JPEG")[:-60], "is damaged"),
        (encoded(HALVES, "WEBP")[:-10], "is damaged"),
        (encoded(HALVES)[:40], "only the beginning of one"),
    ],
)
def test_what_cannot_be_opened_says_so(data, said):
    with pytest.raises(ValueError, match=said) as error:
        open_picture(data)
    assert "\n" not in str(error.value)


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    # IHDR of 60,000 x 60,000 pixels, and of one just over the limit
    small = encoded(np.zeros((1, 1), np.uint8))

    def sized(width, height):
        body = b"IHDR" + width.to_bytes(4) + height.to_bytes(4) + small[24:29]
        return small[:12] + body + zlib.crc32(body).to_bytes(4) + small[33:]

    def decoded(self):
        raise AssertionError

    monkeypatch.setattr(Image.Image, "load", decoded)
    for size in ((60_000, 60_000), (picture_files.MOST_PIXELS + 1, 1)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ValueError, match="more than 50 million pixels"):
                open_picture(sized(*size))


def test_random_damage_never_escapes(monkeypatch):
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    ends = 0
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = np.frombuffer(encoded(texture, kind), np.uint8)
        for _ in range(150):
            hurt = whole.copy()
            hurt[rng.integers(len(hurt), size=3)] = rng.integers(0, 256, 3)
            try:
                assert open_picture(hurt.tobytes()).pixels.ndim == 3
            except ValueError as error:
                ends += 1
                assert str(error).startswith(("is ", "has "))
    assert ends > 50


def test_pictures_are_cut_at_the_centre():
    wide = np.arange(4 * 10 * 3, dtype=np.uint8).reshape(4, 10, 3)
    assert (square(wide) == wide[:, 3:7]).all()
    tall = wide.transpose(1, 0, 2)
    assert (square(tall) == tall[3:7]).all()
    assert square(wide[:, :4]).shape == (4, 4, 3)


# Folders


IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
GOOD = encoded(HALVES)


def table(images=(GOOD,) * 4, image_type=IMAGE, **labels):
    n = len(images)
    if image_type == IMAGE:
        images = [{"bytes": i, "path": None} if isinstance(i, bytes) else i for i in images]
    given = {
        "kind": ["profession"] * n, "noun": ["firefighter"] * n,
        "gender": (["woman", "man"] * n)[:n], "skin_tone": (["light", "dark"] * n)[:n],
    } | labels  # fmt: skip
    columns = {"image": pa.array(list(images), type=image_type)} | {
        k: v if isinstance(v, (pa.Array, pa.ChunkedArray)) else pa.array(v)
        for k, v in given.items() if v is not None
    }  # fmt: skip
    return pa.table(columns)


def named(made, **classes):
    features = {k: {"names": v, "_type": "ClassLabel"} for k, v in classes.items()}
    return made.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    settings = whole.load_profile("smoke").prompts
    settings = settings.model_copy(update={"professions": 0})
    folder = tmp_path_factory.mktemp("grid")
    write_table(
        folder / "training.parquet",
        prompts.training_grid(lexicon.load(), settings, ["gender", "skin_tone"]),
    )
    return folder


@pytest.fixture
def collect(study, grid, tmp_path, monkeypatch):
    """Return a function from tables to (pictures, index) of the stage, folders named by tables."""
    monkeypatch.setattr(workspace, "SCRATCH", tmp_path / "scratch")
    monkeypatch.setattr(places, "ROOT", tmp_path)

    def run(*tables, source=None, shard_size=256, **options):
        folder = tmp_path / "source"
        folder.mkdir(exist_ok=True)
        for i, made in enumerate(tables):
            pq.write_table(made, folder / f"{i}.parquet", **options)
        settings = study.real.model_copy(
            update={
                "source": str(source or folder), "prompts": str(grid),
                "out": str(tmp_path / "out"), "images_per_profession": 100,
                "shard_size": shard_size,
            }
        )  # fmt: skip
        index = collect_real(study.base, settings)
        return shards.read_folder(tmp_path / "out" / "shards")[0], index

    return run


def test_text_of_every_kind_and_plain_bytes_are_read(collect):
    for labels in (
        {"gender": pa.array(["woman", "man"] * 2, pa.large_string())},
        {"gender": pa.array(["woman", "man"] * 2, pa.string_view())},
        {"gender": pa.array(["woman", "man"] * 2).dictionary_encode()},
    ):
        _, index = collect(table(**labels))
        assert index.loc[:3, "gender"].tolist() == ["woman", "man"] * 2
    for kind in (pa.binary(), pa.large_binary()):
        pictures, _ = collect(table(image_type=kind))
        assert (pictures[0] == HALVES).all()


def test_class_labels_follow_the_names_in_the_file(collect):
    made = named(table(gender=[1, 0, 1, 1]), gender=["man", "woman"])
    _, index = collect(made)
    assert index.loc[:3, "gender"].tolist() == ["woman", "man", "woman", "woman"]


def test_photographs_are_stored_upright_and_square(collect):
    wide = np.zeros((SIDE, 2 * SIDE, 3), np.uint8)
    wide[:, SIDE // 2 : -SIDE // 2] = HALVES
    pictures, index = collect(
        table([turned(3), encoded(wide), encoded(wide.swapaxes(0, 1)), GOOD])
    )
    assert pictures.shape[1:] == HALVES.shape and len(index) == 8
    assert pictures[0][-2:].mean() > 240 > 15 > pictures[0][:2].mean()
    assert (pictures[1] == HALVES).all() and (pictures[2] == HALVES.swapaxes(0, 1)).all()


def test_animations_are_told(collect, caplog):
    data = encoded(HALVES, save_all=True, append_images=[Image.fromarray(255 - HALVES)])
    pictures, _ = collect(table([GOOD, data, data, GOOD]))
    assert (pictures[1] == HALVES).all()
    assert "row 1: the picture is animated, and 1 more: the first frame is taken" in caplog.text


def test_sha256_of_the_file_or_of_the_pixels(collect):
    digests = [sha256(GOOD).hexdigest(), shards.sha256_of(HALVES), None, "0" * 64]
    collect(table([GOOD] * 3, sha256=digests[:3]))
    collect(table([GOOD] * 2, sha256=[sha256(GOOD).digest()] * 2))
    with pytest.raises(ValueError, match=r"0.parquet, row 3: .*not the one that its sha256 names"):
        collect(table(sha256=digests))


@pytest.mark.parametrize("bad", [GOOD[:-20], b"", None, {"bytes": None, "path": "a.jpg"}, EPS])
def test_a_bad_picture_is_named_and_nobody_is_told_to_delete_a_file(collect, bad):
    with pytest.raises(ValueError, match=r"1.parquet, row 2: the picture") as error:
        collect(table(), table([GOOD, GOOD, bad, GOOD]))
    said = str(error.value)
    assert "delete" not in said and "repro" not in said and "\n" not in said
    assert "leave" in said and "the row out" in said


def test_a_bad_picture_that_is_not_chosen_harms_nobody(collect):
    made = table([GOOD, b"", GOOD, GOOD], noun=["firefighter", "zebra", "pilot", "pilot"])
    assert len(collect(made)[0]) == 6  # corpus and oversampled


WRONG = {
    "no image": (table().drop_columns(["image"]), "has no column 'image': add it"),
    "urls": (table(["https://a"] * 4, pa.string()), "image holds string, not the bytes"),
    "struct without bytes": (table([{"path": "a"}] * 4, pa.struct([("path", pa.string())])),
                             "not the bytes"),
    "list of bytes": (table([[GOOD]] * 4, pa.list_(pa.binary())), "not the bytes of pictures"),
    "pixels": (table([[1, 2]] * 4, pa.list_(pa.uint8())), "not the bytes of pictures"),
    "null image column": (table([None] * 4, pa.null()), "not the bytes of pictures"),
    "null images": (table([None] * 4), "row 0: the picture is not in the file"),
    "no label": (table(gender=None), "has no column 'gender': add it"),
    "integers": (table(gender=[0, 1, 0, 1]), "gender holds int64, not text"),
    "class beyond the names": (named(table(gender=[0, 1, 2, 1]), gender=["woman", "man"]),
                               "row 2: gender is 2"),
    "class not known": (named(table(gender=[0, -1, 1, 1]), gender=["woman", "man"]),
                        "labelled ''"),
    "odd metadata": (table(gender=[0, 1, 0, 1]).replace_schema_metadata({"huggingface": "[{"}),
                     "gender holds int64"),
    "odd names": (named(table(gender=[0, 1, 0, 1]), gender=3), "gender holds int64"),
    "floats": (table(skin_tone=[0.5] * 4), "skin_tone holds double, not text"),
    "lists": (table(noun=[["firefighter"]] * 4), "noun holds list"),
    "structs": (table(noun=[{"a": "firefighter"}] * 4), "noun holds struct"),
    "booleans": (table(gender=[True] * 4), "gender holds bool"),
    "dates": (table(kind=pa.array([0] * 4, pa.timestamp("s"))), "kind holds timestamp"),
    "binary labels": (table(gender=[b"woman"] * 4), "gender holds binary"),
    "null labels": (table(gender=pa.nulls(4)), "labelled ''"),
    "null nouns": (table(noun=pa.nulls(4)), "shows no profession"),
    "not UTF-8": (
        table(gender=pa.Array.from_buffers(
            pa.string(), 4, pa.array([b"\xff"] * 4, pa.binary()).buffers())),
        "cannot be read",
    ),
    "no rows": (table([]), "shows no profession"),
    "numbers as sha256": (table(sha256=[1, 2, 3, 4]), "sha256 holds no text"),
    "sizes": (table([GOOD, GOOD, encoded(HALVES[:8]), GOOD]), "row 2: .*several sizes"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_tables_stop_with_one_sentence(collect, name):
    made, said = WRONG[name]
    with pytest.raises((ValueError, FileNotFoundError), match=said) as error:
        collect(made)
    assert "\n" not in str(error.value)
    assert type(error.value) in (ValueError, FileNotFoundError)  # not one of Arrow's or Python's


def test_a_column_that_stands_there_twice(collect):
    made = table()
    twice = made.append_column("gender", made["gender"])
    with pytest.raises(ValueError, match="2 columns 'gender'"):
        collect(twice)


@pytest.mark.parametrize("damage", [b"", b"no parquet", None])
def test_damaged_files(collect, tmp_path, damage):
    collect(table())
    path = tmp_path / "source" / "0.parquet"
    path.write_bytes(path.read_bytes()[:-50] if damage is None else damage)
    with pytest.raises(ValueError, match="0.parquet cannot be read"):
        collect()


def test_layouts_that_are_not_meant(collect, tmp_path):
    def said(source, *, error=(FileNotFoundError, ValueError)):
        with pytest.raises(error) as found:
            collect(source=source)
        text = str(found.value)
        assert "run the stage" not in text and "\n" not in text and text.startswith("real.source")
        return text

    hub = tmp_path / "hub"
    (hub / "data").mkdir(parents=True)
    assert "it must hold Parquet files with the columns image" in said(hub)
    pq.write_table(table(), hub / "data" / "train-00000-of-00001.parquet")
    assert f"{hub}/data does: name that folder" in said(hub)
    assert "is a file: name the folder it lies in" in said(
        hub / "data" / "train-00000-of-00001.parquet"
    )
    deep = tmp_path / "deep"
    (deep / "default").mkdir(parents=True)
    (hub / "data").rename(deep / "default" / "train")
    assert f"{deep}/default/train does" in said(deep)
    pictures = tmp_path / "pictures"
    (pictures / "woman").mkdir(parents=True)
    (pictures / "woman" / "a.JPG").write_bytes(turned(1))
    assert 'load_dataset("imagefolder"' in said(pictures)
    assert "is missing" in said(tmp_path / "nowhere")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    said(loop)
    spark = tmp_path / "spark"
    (spark / "a.parquet").mkdir(parents=True)
    pq.write_table(table(), spark / "a.parquet" / "part-0.parquet")
    assert f"{spark}/a.parquet does" in said(spark)


def test_a_set_of_the_study_is_found_beside_its_index(collect, tmp_path):
    collect(table())
    with pytest.raises(FileNotFoundError, match="out/shards does: name that folder"):
        collect(source=tmp_path / "out")


def test_memory_is_bounded_by_batches(collect, monkeypatch, tmp_path):
    """One file, one row group: a few files' bytes at once, and shards of bounded size."""
    read = []
    original = parquet._batches

    def watched(*arguments, **options):
        for batch in original(*arguments, **options):
            read.append(len(batch))
            yield batch

    monkeypatch.setattr(parquet, "_batches", watched)
    pictures = [encoded(np.full((SIDE, SIDE, 3), i, np.uint8)) for i in range(30)]
    found, _ = collect(table(pictures), shard_size=10)
    assert max(read[1:]) <= parquet.BATCH  # the first batch: labels
    assert (found[:30, 0, 0, 0] == np.arange(30)).all()
    counts = [shards.count(p) for p in shards.files(tmp_path / "out" / "shards")]
    assert counts == [10] * 6
    monkeypatch.setattr(photographs, "MOST_BYTES", 4 * HALVES.nbytes)
    again, _ = collect(table(pictures), shard_size=20)
    counts = [shards.count(p) for p in shards.files(tmp_path / "out" / "shards")]
    assert max(counts) == 4 and (again == found).all()
    few, _ = collect(table(pictures), shard_size=10, row_group_size=7)
    assert (few == found).all()


def test_rows_keep_their_labels(collect):
    pictures = [encoded(np.full((SIDE, SIDE, 3), i, np.uint8)) for i in range(40)]
    nouns = ["firefighter", "zebra", "pilot", "dog"] * 10
    kinds = ["profession", "x", "profession", "general"] * 10
    first = table(pictures[:20], noun=nouns[:20], kind=kinds[:20])
    second = table(pictures[20:], noun=nouns[20:], kind=kinds[20:])
    found, index = collect(first, second, row_group_size=3)
    corpus = index[index["set"] != "oversampled"]
    assert set(corpus["noun"]) == {"firefighter", "pilot", "dog"}
    for place, row in corpus.iterrows():
        assert nouns[found[place, 0, 0, 0]] == row["noun"]
    assert isinstance(corpus, pd.DataFrame) and len(corpus) > 20
