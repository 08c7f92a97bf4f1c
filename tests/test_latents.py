"""Latents of a set are encoded once, lie in a mapped file, and belong to pictures and model."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dft_lib.image_sets import examples, latents
from dft_lib.models import pipelines
from dft_lib.repro import shards

HAS_MAPS = Path("/proc/self/maps").exists()
SETS = ["balanced", "balanced", "unbalanced", "balanced", "general", "balanced", "unbalanced",
        "balanced", "general", "balanced"]  # fmt: skip
LEFT_OUT = 3  # rejected by screening
MINE = [0, 1, 4, 5, 7, 8, 9]  # what an arm on the balanced set may use


def smooth(count, side=64, seed=0):
    """Return pictures of slow waves, the same motifs whatever their size."""
    rng = np.random.default_rng(seed)
    waves, phases = rng.uniform(2, 6, (2, count, 3)), rng.uniform(0, 6, (count, 3))
    at = (np.arange(side) + 0.5) / side
    grid = waves[0][:, None, None] * at[:, None, None] + waves[1][:, None, None] * at[:, None]
    levels = 127.5 + 120 * np.sin(grid + phases[:, None, None])
    return levels.round().astype(np.uint8)


def save(folder, shown, size=4):
    """Write a set of pictures in shards of so many, and its index."""
    table = pd.DataFrame({"set": SETS, "noun": [f"n{i}" for i in range(len(SETS))], "weight": 1.0})
    table.loc[LEFT_OUT, "weight"] = 0.0
    for i, part in enumerate(shards.slices(len(shown), size)):
        shards.write(folder / "shards" / f"shard-{i:05d}.parquet", shown[part], table[part])
    records = [shards.read_records(path) for path in shards.files(folder / "shards")]
    pd.concat(records, ignore_index=True).to_parquet(folder / shards.INDEX)
    return folder


@pytest.fixture(scope="module")
def shown():
    return np.random.default_rng(1).integers(0, 256, (len(SETS), 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, shown):
    return save(tmp_path / "set", shown)


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """Return the folder in which latents are kept."""
    monkeypatch.setattr(latents, "SCRATCH", tmp_path / "scratch")
    return tmp_path / "scratch" / "latents"


@pytest.fixture(scope="module")
def model(random_model):
    return pipelines.load(str(random_model), device="cpu", dtype="float32")


class Loads:
    """Loads the model, and counts how often."""

    def __init__(self, model):
        self.model, self.times = model, 0

    def __call__(self):
        self.times += 1
        return self.model


@pytest.fixture
def fresh(model):
    return Loads(model)


def files(kept):
    return sorted(p.name for p in kept.iterdir() if p.suffix not in (".lock", ".sha256"))


# -- what is kept


def test_moments_are_those_of_encode_bit_for_bit(folder, fresh, model, shown):
    moments, index = latents.moments_of(folder, "balanced", fresh, "m")
    assert moments.dtype == torch.float32 and moments.shape == (2, len(MINE), 4, 8, 8)
    assert torch.equal(moments, latents.encode(model, shown[MINE]))
    assert index["noun"].tolist() == [f"n{i}" for i in MINE]
    assert (moments[1] > 0).all()  # standard deviations
    scaled = model.vae.config.scaling_factor
    one = torch.from_numpy(shown[MINE[3]]).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        posterior = model.vae.encode(one).latent_dist
    assert torch.allclose(moments[0, 3], posterior.mean[0] * scaled, atol=1e-5)
    assert torch.allclose(moments[1, 3], posterior.std[0] * scaled, atol=1e-5)


def test_pictures_are_encoded_once(folder, fresh, kept):
    first, index = latents.moments_of(folder, "balanced", fresh, "m")
    (name,) = files(kept)
    before = (kept / name).stat().st_mtime_ns

    def never():
        raise AssertionError("the model was loaded again")

    second, again = latents.moments_of(folder, "balanced", never, "m")
    assert torch.equal(first, second)
    pd.testing.assert_frame_equal(index, again)
    assert files(kept) == [name] and (kept / name).stat().st_mtime_ns == before


@pytest.mark.skipif(not HAS_MAPS, reason="the maps of a process are seen on Linux only")
def test_moments_are_mapped_not_read(folder, fresh, kept):
    moments, _ = latents.moments_of(folder, "balanced", fresh, "m")
    (name,) = files(kept)
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    mapped = [line.split()[0].split("-") for line in lines if line.endswith(str(kept / name))]
    assert any(int(a, 16) <= moments.data_ptr() < int(b, 16) for a, b in mapped)


def test_nobody_can_change_what_is_kept(folder, fresh, kept):
    moments, _ = latents.moments_of(folder, "balanced", fresh, "m")
    (name,) = files(kept)
    before = (kept / name).read_bytes()
    moments += 1
    assert (kept / name).read_bytes() == before
    again, _ = latents.moments_of(folder, "balanced", fresh, "m")
    assert torch.equal(again + 1, moments)


def test_training_reads_the_rows_it_asks_for(folder, fresh, model, shown):
    moments, index = latents.moments_of(folder, "balanced", fresh, "m")
    rows = index[index["set"] == "general"].assign(text="x", kind="general")
    mean, std = examples.examples(moments, rows).latents(np.array([1, 0]))
    expected = latents.encode(model, shown[[8, 4]])
    assert torch.allclose(mean, expected[0], atol=1e-5)
    assert torch.allclose(std, expected[1], atol=1e-5)


# -- when it is made anew


def test_other_pictures_and_other_models_have_latents_of_their_own(folder, fresh, kept, shown):
    def moments(images="balanced", model_hash="m"):
        return latents.moments_of(folder, images, fresh, model_hash)[0]

    first = moments()
    assert (fresh.times, len(files(kept))) == (1, 1)
    moments(model_hash="another")
    assert (fresh.times, len(files(kept))) == (2, 2)
    assert moments(images="unbalanced").shape[1] == 4  # two, and two general ones
    assert (fresh.times, len(files(kept))) == (3, 3)
    changed = shown.copy()
    changed[MINE[2], 5, 5, 0] ^= 1  # one level of one pixel
    shutil.rmtree(folder)
    save(folder, changed)
    assert not torch.equal(moments(), first)
    assert (fresh.times, len(files(kept))) == (4, 4)
    shutil.rmtree(folder)
    save(folder, shown)
    assert torch.equal(moments(), first)  # still there
    assert fresh.times == 4


def test_other_labels_need_no_other_latents(folder, fresh):
    latents.moments_of(folder, "balanced", fresh, "m")
    index = pd.read_parquet(folder / shards.INDEX)
    index.assign(weight=index["weight"] / 3, noun="x").to_parquet(folder / shards.INDEX)
    _, rows = latents.moments_of(folder, "balanced", fresh, "m")
    assert set(rows["noun"]) == {"x"} and fresh.times == 1


def test_pictures_of_no_use_may_change(folder, fresh, shown):
    latents.moments_of(folder, "balanced", fresh, "m")
    changed = shown.copy()
    changed[[LEFT_OUT, 2]] = 0
    shutil.rmtree(folder)
    save(folder, changed)
    latents.moments_of(folder, "balanced", fresh, "m")
    assert fresh.times == 1


def test_the_number_of_threads_is_part_of_the_numerics(folder, fresh):
    before = torch.get_num_threads()
    latents.moments_of(folder, "balanced", fresh, "m")
    try:
        torch.set_num_threads(before + 1)
        latents.moments_of(folder, "balanced", fresh, "m")
    finally:
        torch.set_num_threads(before)
    assert fresh.times == 2


# -- complete or not at all


def test_nothing_half_written_stays(folder, fresh, model, kept, monkeypatch):
    monkeypatch.setattr(latents, "BATCH", 2)
    real, seen = model.vae.encode, []

    def breaks(batch):
        seen.append([p for p in kept.iterdir() if p.suffix == ".part"])
        if len(seen) == 3:
            raise OSError(28, "No space left on device")
        return real(batch)

    with monkeypatch.context() as patch:
        patch.setattr(model.vae, "encode", breaks)
        with pytest.raises(OSError, match="No space left"):
            latents.moments_of(folder, "balanced", fresh, "m")
    assert [len(parts) for parts in seen] == [1, 1, 1]  # it had begun, aside
    assert files(kept) == []
    moments, _ = latents.moments_of(folder, "balanced", fresh, "m")  # the lock is free
    assert moments.shape[1] == len(MINE) and len(files(kept)) == 1


@pytest.mark.parametrize("damage", ["zeroed", "flipped", "cut", "unsealed"])
def test_damaged_latents_are_encoded_again(folder, fresh, kept, caplog, damage):
    first, _ = latents.moments_of(folder, "balanced", fresh, "m")
    first = first.clone()
    path = kept / files(kept)[0]
    whole = path.read_bytes()
    if damage == "unsealed":
        path.with_suffix(".sha256").unlink()
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        change = bytes(64) if damage == "zeroed" else bytes(b ^ 1 for b in whole[-64:])
        path.write_bytes(whole[:-64] + change)
    again, _ = latents.moments_of(folder, "balanced", fresh, "m")
    assert torch.equal(first, again) and fresh.times == 2
    assert path.read_bytes() == whole
    assert [r.getMessage().count("it is made again") for r in caplog.records] == [1]
    latents.moments_of(folder, "balanced", fresh, "m")
    assert fresh.times == 2


def test_a_disk_without_room_is_said_before_anything_is_encoded(
    folder, fresh, kept, model, monkeypatch
):
    calls, real = [], model.vae.encode
    monkeypatch.setattr(latents, "BATCH", 2)
    monkeypatch.setattr(model.vae, "encode", lambda b: calls.append(1) or real(b))
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(OSError, match=r"could not write .*GB are needed and .* free some disk"):
        latents.moments_of(folder, "balanced", fresh, "m")
    assert len(calls) == 1 and files(kept) == []


def test_a_damaged_shard_is_refused(folder, fresh, kept, shown):
    path = folder / "shards" / "shard-00001.parquet"
    _, records = shards.read(path)
    shards.write(path, shown[4:8] ^ 1, records.drop(columns="sha256"))
    table = shards.read_records(path).assign(sha256=records["sha256"])
    pictures = pd.read_parquet(path)["image"]
    table.assign(image=pictures).to_parquet(path)  # other pixels under the old checksums
    with pytest.raises(ValueError, match=r"shard-00001.parquet is corrupt \(checksum of row 0"):
        latents.moments_of(folder, "balanced", fresh, "m")
    assert files(kept) == []


# -- precision, sizes, batches


def test_half_precision_is_kept_in_half_precision(folder, fresh, random_model):
    half = pipelines.load(str(random_model), device="cpu", dtype="bfloat16")
    moments, index = latents.moments_of(folder, "balanced", Loads(half), "half")
    assert moments.dtype == torch.float16
    whole, _ = latents.moments_of(folder, "balanced", fresh, "m")
    assert torch.allclose(moments.float(), whole, atol=0.03)  # bfloat16: three digits
    rows = index.assign(text="x", kind="profession")
    mean, std = examples.examples(moments, rows).latents(np.arange(len(MINE)))
    assert mean.dtype == std.dtype == torch.float32
    assert torch.equal(torch.stack([mean, std]), moments.float())


def test_pictures_of_another_size_get_the_models_latents(tmp_path, model):
    small, large = smooth(len(SETS)), smooth(len(SETS), 128)
    found = {}
    for name, drawn in {"small": small, "large": large}.items():
        folder = save(tmp_path / name, drawn)
        found[name], _ = latents.moments_of(folder, "balanced", Loads(model), "m")
    assert found["large"].shape == found["small"].shape
    means = [found[k][0] for k in ("small", "large")]
    apart = (means[0] - means[0].roll(1, 0)).abs().mean()
    assert (means[1] - means[0]).abs().mean() < apart / 20
    direct = latents.encode(model, large[MINE])
    assert torch.equal(direct, found["large"])


def test_batches_do_not_depend_on_the_borders_of_shards(tmp_path, shown, model, monkeypatch):
    monkeypatch.setattr(latents, "BATCH", 5)
    real, sizes, found = model.vae.encode, [], []
    monkeypatch.setattr(model.vae, "encode", lambda b: sizes.append(len(b)) or real(b))
    for size in (3, 8):
        monkeypatch.setattr(latents, "SCRATCH", tmp_path / f"scratch-{size}")
        folder = save(tmp_path / f"set-{size}", shown, size)
        found.append(latents.moments_of(folder, "balanced", Loads(model), "m")[0])
    assert sizes == [5, 2, 5, 2]
    assert torch.equal(*found)
    assert torch.equal(found[0], latents.encode(model, shown[MINE]))


# -- the index and the shards behind it


@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_places_say_where_pictures_lie(tmp_path, shown, size):
    folder = save(tmp_path / "set", shown, size)
    index = examples.read_index(folder, "balanced")
    assert index["place"].tolist() == MINE and index.index.tolist() == list(range(len(MINE)))
    assert np.array_equal(shards.pick(folder, index["place"]), shown[MINE])
    mixed = [9, 0, 5, 0]
    assert np.array_equal(shards.pick(folder, mixed), shown[mixed])
    pictures = np.concatenate(list(examples.pictures(folder, index)))
    assert np.array_equal(pictures, shown[MINE])
    part = index[index["noun"].isin(["n1", "n8"])]
    assert np.array_equal(np.concatenate(list(examples.pictures(folder, part))), shown[[1, 8]])


def test_shards_without_a_wanted_picture_are_not_opened(folder, shown, monkeypatch):
    opened, real = [], shards.read
    monkeypatch.setattr(
        shards, "read", lambda path, **named: opened.append(path.name) or real(path, **named)
    )
    index = examples.read_index(folder, "balanced")
    assert opened == []  # the records are enough
    assert len(list(examples.pictures(folder, index[index["place"] > 7]))) == 1
    shards.pick(folder, [4, 5])
    assert opened == ["shard-00002.parquet", "shard-00001.parquet"]


def test_counts_and_records_without_pictures(folder):
    for path in shards.files(folder / "shards"):
        pictures, records = shards.read(path)
        assert shards.count(path) == len(pictures)
        pd.testing.assert_frame_equal(shards.read_records(path), records)


@pytest.mark.parametrize("change", ["sha256", "shorter", "order"])
def test_an_index_of_other_shards_is_refused(folder, change):
    index = pd.read_parquet(folder / shards.INDEX)
    if change == "sha256":
        index.loc[2, "sha256"] = "0" * 64  # of a picture that the arm does not even use
    other = {"shorter": index[:-1], "order": index[::-1].reset_index(drop=True)}.get(change, index)
    other.to_parquet(folder / shards.INDEX)
    with pytest.raises(ValueError) as caught:
        examples.read_index(folder, "balanced")
    message = str(caught.value)
    assert "index.parquet does not belong to the shards beside it: delete" in message
    assert message.endswith("and run `dvc repro` again") and "\n" not in message


def test_a_set_that_was_not_made_says_so(tmp_path, fresh):
    with pytest.raises(FileNotFoundError, match=r"index.parquet is missing: run notebook 02"):
        latents.moments_of(tmp_path, "balanced", fresh, "m")
    with pytest.raises(ValueError, match="no pictures of the set 'real'"):
        latents.moments_of(save(tmp_path / "a", smooth(len(SETS))), "real", fresh, "m")
