"""Parquet files that a stranger hands over: found, types checked, read a few rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from dft_lib.image_sets.picture_files import FORMATS
from dft_lib.repro import shards
from dft_lib.repro.paths import show

BATCH = 8  # pictures whose files are in memory at once
LABELS = ("kind", "noun")  # and the study's attributes
WANTED = "Parquet files with the columns image (bytes of a PNG, JPEG or WebP file) and the labels"


def files(source: Path) -> list[Path]:
    """List a folder's Parquet files in order, an index beside a set's shards left out.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence that says what is wanted instead.
    """
    where = f"real.source: {show(source)}"
    try:
        if source.is_file():
            parent = show(source.parent)
            raise ValueError(
                f"{where} is a file: name the folder it lies in, {parent}, with {WANTED}"
            )
        if not source.is_dir():
            raise FileNotFoundError(f"{where} is missing: name a folder with {WANTED}")
        found = _parquet(source)
        if not found:
            raise FileNotFoundError(f"{where} holds no Parquet files{_instead(source)}")
    except (FileNotFoundError, ValueError):
        raise
    except OSError as error:
        raise ValueError(f"{where} cannot be read ({error.strerror}): mend its rights") from error
    return found


def _parquet(folder: Path) -> list[Path]:
    inside = (p for p in folder.iterdir() if p.name != shards.INDEX and p.name[:1] not in "._")
    return sorted(p for p in inside if p.suffix.lower() == ".parquet" and p.is_file())


def _instead(source: Path) -> str:
    """Say what a folder without Parquet files seems to be, and what to do with it."""
    pictures = False
    for depth in ("*", "*/*", "*/*/*"):
        for path in sorted(source.glob(depth)):
            if path.is_dir() and _parquet(path):
                return f", but {show(path)} does: name that folder"
            pictures |= path.suffix.lower().strip(".") in ("jpg", *map(str.lower, FORMATS))
        if pictures:
            return (
                f", but pictures: write {WANTED}, for example with "
                'datasets.load_dataset("imagefolder", data_dir=...) and to_parquet'
            )
    return f": it must hold {WANTED}"


def rows(path: Path, wanted: set[int]) -> Iterator[tuple[int, bytes | None, Any]]:
    """Yield number, file bytes and given sha256 of some rows, a few in memory at once."""
    if not wanted:
        return
    with _parquet_file(path) as file:
        columns = ["image"] + (["sha256"] if "sha256" in file.schema_arrow.names else [])
        first = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            mine = wanted & set(range(first, first + count))
            batches = _batches(path, file, columns, BATCH, [group] if mine else [])
            for at, batch in _numbered(batches, first):
                images, sums = batch.column(0), batch.column(1) if len(columns) == 2 else None
                for i in (i for i in range(len(batch)) if at + i in mine):
                    value = images[i].as_py()
                    data = value["bytes"] if isinstance(value, dict) else value
                    yield at + i, data, sums[i].as_py() if sums is not None else None
            first += count


def labels(path: Path, attributes: Sequence[str]) -> pd.DataFrame:
    """Read and check a file's labels (`LABELS` and attributes), and the types of its columns."""
    wanted = [*LABELS, *attributes]
    with _parquet_file(path) as file:
        schema = file.schema_arrow
        _require_columns(path, schema, wanted)
        _require_image(path, schema)
        names = _class_names(schema)
        for label in wanted:
            _require_label(path, schema.field(label).type, label, names)
        parts = [
            pd.DataFrame(
                {label: _texts(path, batch.column(i), label, names, at)
                 for i, label in enumerate(wanted)},
            )
            for at, batch in _numbered(_batches(path, file, wanted, 1 << 16))
        ]  # fmt: skip
    return pd.concat(parts) if parts else pd.DataFrame({c: pd.Series(dtype=str) for c in wanted})


def _numbered(
    batches: Iterator[pa.RecordBatch], at: int = 0
) -> Iterator[tuple[int, pa.RecordBatch]]:
    for batch in batches:
        yield at, batch
        at += len(batch)


def _texts(
    path: Path, column: pa.Array, label: str, names: dict[str, list[str]], start: int
) -> list[str]:
    try:
        values = column.to_pylist()
    except UnicodeDecodeError as error:
        raise _unreadable(path, error) from error
    if label not in names or not kinds.is_integer(column.type):
        return ["" if v is None else str(v) for v in values]
    out = []
    for i, value in enumerate(values):
        if value is not None and not -1 <= value < len(names[label]):
            raise ValueError(
                f"{show(path)}, row {start + i}: {label} is {value}, but the file's metadata name "
                f"{len(names[label])} classes: mend it"
            )
        out.append("" if value is None or value == -1 else names[label][value])  # -1: not known
    return out


def _require_columns(path: Path, schema: pa.Schema, labels: Sequence[str]) -> None:
    for name in ("image", *labels):
        if (count := schema.names.count(name)) != 1:
            what = f"{count} columns {name!r}" if count else f"no column {name!r}: add it"
            raise ValueError(f"{show(path)} has {what}; wanted are {WANTED} {', '.join(labels)}")


def _require_image(path: Path, schema: pa.Schema) -> None:
    kind = schema.field("image").type
    if kinds.is_struct(kind):
        inner = [kind.field(i) for i in range(kind.num_fields) if kind.field(i).name == "bytes"]
        kind = inner[0].type if len(inner) == 1 else kind
    if not _binary(kind):
        raise ValueError(
            f"{show(path)}: the column image holds {_named(kind)}, not the bytes of pictures "
            "(a path or URL is not enough): put them there, for example with datasets' to_parquet"
        )
    if "sha256" in schema.names and (
        schema.names.count("sha256") > 1 or not (_text(k := schema.field("sha256").type) or
                                                 _binary(k) or kinds.is_null(k))
    ):  # fmt: skip
        raise ValueError(f"{show(path)}: the column sha256 holds no text: mend or remove it")


def _require_label(path: Path, kind: pa.DataType, label: str, names: dict[str, Any]) -> None:
    inner = kind.value_type if kinds.is_dictionary(kind) else kind
    if _text(inner) or kinds.is_null(inner) or (kinds.is_integer(kind) and label in names):
        return
    classes = " (integers are classes only with their names in the file's Hugging Face metadata)"
    raise ValueError(
        f"{show(path)}: the column {label} holds {_named(kind)}, not text"
        f"{classes if kinds.is_integer(kind) else ''}: write the words of the study's lexicon"
    )


def _text(kind: pa.DataType) -> bool:
    return kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)


def _binary(kind: pa.DataType) -> bool:
    return kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind)


def _named(kind: pa.DataType) -> str:
    return str(kind).split("\n")[0][:60]


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return {column: names of its classes} from Hugging Face's metadata, if it has any."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {k: v["names"] for k, v in features.items() if v.get("_type") == "ClassLabel"}
        return {k: v for k, v in found.items() if all(isinstance(name, str) for name in v)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}  # none, or not what Hugging Face writes


def _parquet_file(path: Path) -> pq.ParquetFile:
    try:
        # mapped: a row group of any size is read a page at a time
        file = pq.ParquetFile(path, memory_map=True)
        list(file.schema_arrow.names)  # may not be UTF-8
        return file
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def _batches(
    path: Path,
    file: pq.ParquetFile,
    columns: list[str],
    size: int,
    groups: list[int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield some columns, in that order, of all or some row groups, a few rows at a time."""
    try:
        for batch in file.iter_batches(size, groups, columns, use_threads=False):
            yield batch.select(columns)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ValueError(f"{show(path)} cannot be read ({reason}): replace it")
