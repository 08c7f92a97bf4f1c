"""YAML as DVC reads it: version 1.2, so that ``1e-4`` is a number and ``no`` a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from dft_lib.repro.paths import show


def read_yaml(path: Path) -> Any:
    """Read a YAML 1.2 file into plain Python values.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence, if the file is missing or is not YAML.
    """
    if not path.exists():
        raise FileNotFoundError(f"{show(path)} is missing: restore it with `git checkout`")
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
        raise ValueError(f"{show(path)}, line {line}: not valid YAML; mend that line") from error
