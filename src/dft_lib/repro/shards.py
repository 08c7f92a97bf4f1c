"""Images and their records in Parquet shards that Hugging Face ``datasets`` reads as they are.

A shard is one file: a column ``image`` (PNG bytes) and one column per field of the record. Pixels
are lossless; ``sha256`` in every record is of the raw pixel bytes, so a shard can be verified.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from dft_lib.repro.files import write_atomic, write_text
from dft_lib.repro.paths import show

INDEX = "index.parquet"  # verdict and weight of every image, beside a set's shards
_FORMATS = ("PNG",)  # what `write` writes; other decoders are never started
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def sha256_of(picture: np.ndarray) -> str:
    """Return the SHA-256 of a uint8 picture's raw bytes."""
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()


def _png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def write(path: Path, pictures: np.ndarray, records: pd.DataFrame) -> None:
    """Write one shard atomically; the same input gives the same bytes.

    Parameters
    ----------
    path : pathlib.Path
        File to write.
    pictures : numpy.ndarray
        uint8, shape (n, height, width, 3).
    records : pandas.DataFrame
        n rows; a column ``sha256`` is added.
    """
    if len(pictures) != len(records):
        raise ValueError(f"{len(pictures)} pictures but {len(records)} records")
    records = records.reset_index(drop=True).assign(sha256=[sha256_of(p) for p in pictures])
    table = pa.Table.from_pandas(records, preserve_index=False).replace_schema_metadata(None)
    with ThreadPoolExecutor() as threads:  # compression leaves Python's lock alone
        encoded = list(threads.map(_png, pictures))
    images = pa.array([{"bytes": data, "path": None} for data in encoded], type=_IMAGE)
    table = table.add_column(0, pa.field("image", _IMAGE), images)
    features = {name: _feature(table.schema.field(name).type) for name in table.column_names}
    info = json.dumps({"info": {"features": features}}, sort_keys=True)
    table = table.replace_schema_metadata({"huggingface": info})
    write_atomic(path, lambda part: pq.write_table(table, part, compression="zstd"))


def write_card(folder: Path, pattern: str) -> None:
    """Say which files of a folder hold pictures, as ``datasets.load_dataset(folder)`` reads it.

    Without it, the tables beside the shards would be taken for pictures too.

    Parameters
    ----------
    folder : pathlib.Path
        Gets a ``README.md``.
    pattern : str
        The shards, relative to it.
    """
    head = f'---\nconfigs:\n- config_name: default\n  data_files: "{pattern}"\n---\n\n'
    text = f"Pictures and their records: `datasets.load_dataset` reads `{pattern}`.\n"
    write_text(folder / "README.md", head + text)


def _feature(kind: pa.DataType) -> dict[str, str]:
    if kind == _IMAGE:
        return {"_type": "Image"}
    name = "string" if pa.types.is_large_string(kind) or pa.types.is_string(kind) else str(kind)
    return {"dtype": {"double": "float64"}.get(name, name), "_type": "Value"}


def read(path: Path, *, verify: bool = True) -> tuple[np.ndarray, pd.DataFrame]:
    """Read one shard; returns pictures uint8 (n, height, width, 3) and records.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence, if the shard is missing, cannot be read, or a picture's checksum is
        not the recorded one.
    """
    if not path.exists():
        raise FileNotFoundError(f"shard {show(path)} is missing: run the stage that writes it")
    try:
        table = pq.read_table(path)
        encoded = table.column("image").to_pylist()
        streams = [io.BytesIO(e["bytes"]) for e in encoded]
        pictures = [np.asarray(Image.open(s, formats=_FORMATS).convert("RGB")) for s in streams]
        records = table.drop_columns(["image"]).to_pandas()
        if verify:
            wrong = [
                i
                for i, (p, s) in enumerate(zip(pictures, records["sha256"], strict=True))
                if sha256_of(p) != s
            ]
            if wrong:
                raise ValueError(f"checksum of row {wrong[0]} differs")
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"shard {show(path)} is corrupt ({str(error).splitlines()[0]}): delete it and run "
            "`dvc repro` again"
        ) from error
    return np.stack(pictures) if pictures else np.zeros((0, 0, 0, 3), np.uint8), records


def count(path: Path) -> int:
    """Return how many images a shard holds, by the table at its end."""
    return pq.read_metadata(path).num_rows


def read_records(path: Path) -> pd.DataFrame:
    """Read the records of one shard without its pictures."""
    columns = [c for c in pq.read_schema(path).names if c != "image"]
    return pq.read_table(path, columns=columns).to_pandas()


def files(folder: Path) -> list[Path]:
    """List the shards of a folder in order.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    found = sorted(folder.glob("*.parquet"))
    if not found:
        raise FileNotFoundError(f"no shards in {show(folder)}: run the stage that writes them")
    return found


def read_folder(folder: Path, *, verify: bool = True) -> tuple[np.ndarray, pd.DataFrame]:
    """Read every shard of a folder, in order, into one array and one table."""
    parts = [read(path, verify=verify) for path in files(folder)]
    pictures = np.concatenate([p for p, _ in parts])
    return pictures, pd.concat([r for _, r in parts], ignore_index=True)


def pick(folder: Path, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the pictures at positions `rows` of a set (``folder/shards``), in that order."""
    found: dict[int, np.ndarray] = {}
    start, wanted = 0, {int(r) for r in rows}
    for path in files(folder / "shards"):
        size = count(path)
        here = [r for r in wanted if start <= r < start + size]
        if here:
            pictures, _ = read(path, verify=False)
            found |= {r: pictures[r - start] for r in here}
        start += size
    return np.stack([found[int(r)] for r in rows])


def slices(total: int, size: int) -> Sequence[slice]:
    """Cut `total` rows into shards of `size` rows, the last one shorter."""
    return [slice(i, min(i + size, total)) for i in range(0, total, size)]
