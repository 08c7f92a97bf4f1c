"""Files that appear complete or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

if TYPE_CHECKING:  # the runner needs no table
    import pandas as pd

_UMASK = os.umask(0)  # there is no way to ask without setting it
os.umask(_UMASK)


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to disk, then rename it.

    Raises
    ------
    OSError
        If there is no space left (or the folder cannot be written); `path` is left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.chmod(0o666 & ~_UMASK)  # safetensors lets nobody but the owner read
        with open(part, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OSError(
            getattr(error, "errno", None) or 0,
            f"could not write {path}: {reason}; free some disk space or mend "
            "the folder's permissions, then run again (finished work is kept)",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def require_room(folder: Path, size: int) -> None:
    """Refuse to begin a large file for which a disk has no room.

    Raises
    ------
    OSError
        If fewer than `size` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            errno.ENOSPC, f"{size / 1e9:.2g} GB are needed and {free / 1e9:.2g} GB are free"
        )


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""

    def write(part: Path) -> None:
        part.write_text(text, encoding="utf-8")

    write_atomic(path, write)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as sorted, indented JSON with a final newline, atomically."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, text)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV (six significant digits) or Parquet, atomically."""
    if path.suffix == ".csv":
        write_atomic(path, lambda part: table.to_csv(part, index=False, float_format="%.6g"))
    else:
        write_atomic(path, lambda part: table.to_parquet(part, index=False, compression="zstd"))
