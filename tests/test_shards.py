import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dft_lib.repro import files, shards
from dft_lib.repro.paths import NOTEBOOKS


def test_round_trip_and_equal_bytes(tmp_path, pictures, records):
    shards.write(tmp_path / "a.parquet", pictures, records)
    shards.write(tmp_path / "b.parquet", pictures, records)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    found, table = shards.read(tmp_path / "a.parquet")
    assert np.array_equal(found, pictures)
    pd.testing.assert_frame_equal(table.drop(columns="sha256"), records, check_dtype=False)


def test_hugging_face_datasets_reads_it(tmp_path, pictures, records):
    shards.write(tmp_path / "a.parquet", pictures, records)
    data = datasets.Dataset.from_parquet(
        str(tmp_path / "a.parquet"), cache_dir=str(tmp_path / "cache")
    )
    assert np.array_equal(np.asarray(data[2]["image"]), pictures[2])
    assert data[2]["prompt_id"] == "c"


def test_corrupt_shards_are_named(tmp_path, pictures, records):
    path = tmp_path / "a.parquet"
    shards.write(path, pictures, records)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"a.parquet is corrupt .*dvc repro"):
        shards.read(path)
    path.write_bytes(whole)
    table = pq.read_table(path)
    wrong = table.set_column(
        table.column_names.index("sha256"), "sha256", [["0" * 64] * len(pictures)]
    )
    pq.write_table(wrong, path)
    with pytest.raises(ValueError, match="checksum of row 0 differs"):
        shards.read(path)


def test_missing_shards(tmp_path):
    with pytest.raises(FileNotFoundError, match="shard .* is missing"):
        shards.read(tmp_path / "a.parquet")
    with pytest.raises(FileNotFoundError, match="no shards"):
        shards.files(tmp_path)


def test_no_space_left_keeps_the_old_file_and_says_so(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})

    def fails(part):
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="a.json: No space left on device; free some disk space"):
        files.write_atomic(path, fails)
    assert path.read_text() == '{\n  "old": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_slices_cover_everything_once():
    parts = shards.slices(10, 4)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(10))


def test_load_dataset_reads_a_folder_of_shards_with_tables_beside_them(
    tmp_path, pictures, records
):
    where = tmp_path / "set"
    shards.write(where / "shards" / "shard-00000.parquet", pictures[:3], records[:3])
    shards.write(where / "shards" / "shard-00001.parquet", pictures[3:], records[3:])
    records.assign(verdict="kept").to_parquet(where / shards.INDEX)
    shards.write_card(where, "shards/*.parquet")
    data = datasets.load_dataset(str(where), cache_dir=str(tmp_path / "cache"))["train"]
    assert data["prompt_id"][:] == list("abcde")
    assert np.array_equal(np.asarray(data[4]["image"]), pictures[4])


@pytest.mark.parametrize("folder", ["synthetic", "evaluation/base", "evaluation/dft"])
def test_load_dataset_reads_what_the_stages_write(tmp_path, folder):
    where = NOTEBOOKS / "fixtures" / folder
    data = datasets.load_dataset(str(where), cache_dir=str(tmp_path))["train"]
    written = sorted(p for p in where.glob("*/*.parquet"))
    sums = [s for p in written for s in shards.read_records(p)["sha256"]]
    assert data["sha256"][:] == sums
    assert np.asarray(data[0]["image"]).shape == (64, 64, 3)
