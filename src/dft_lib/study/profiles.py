"""Profiles: what differs from ``params.yaml`` when the study runs at another size.

``profiles/<name>.yaml`` holds the groups that differ, and of each only the fields that do; a field
is replaced whole. The same holds for every arm under ``arms``: its fields are replaced one by one,
``{}`` changes none. A new arm stands after the one that the profile names before it (or last);
``null`` removes an arm.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dft_lib.repro.paths import ROOT, show
from dft_lib.study.arms import NAME
from dft_lib.study.schema import read_values

FOLDER = ROOT / "profiles"
TAKEN = ("latents", "open")  # folders of ``scratch/`` that are no clones


def find(profile: str) -> Path:
    """Return the file of a profile: a name in ``profiles/``, or a path, which is only read.

    Raises
    ------
    ValueError
        With one sentence, if there is no such file, or its name is none.
    """
    path = Path(profile) if re.search(r"[/.\\]", profile) else FOLDER / f"{profile}.yaml"
    if not re.fullmatch(NAME, path.stem) or path.suffix != ".yaml" or path.stem in TAKEN:
        raise ValueError(
            f"{profile!r} is no profile: use a name of small letters, digits and _, or the path "
            "of a .yaml file so named"
        )
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise ValueError(f"there is no {show(path)}; profiles are: {there}")
    return path


def is_named(path: Path) -> bool:
    """Say whether a profile is one of ``profiles/``: only those are published."""
    return path.parent.resolve() == FOLDER.resolve()


def merged(path: Path, default: Path = ROOT / "params.yaml") -> dict[str, Any]:
    """Return the values of ``params.yaml`` with a profile's differences; nothing is checked yet.

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence, if a file is missing, no YAML or no mapping of groups, or if an arm is
        removed that is not there.
    """
    values, differences = read_values(default), read_values(path)
    for name, group in differences.items():
        mine = values.get(name)
        if not isinstance(group, dict) or not isinstance(mine, dict):
            values[name] = group
        elif name == "arms":
            values[name] = _arms(mine, group, path)
        else:
            values[name] = mine | group
    return values


def _arms(mine: dict[str, Any], changes: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the arms with a profile's changes, in an order that the profile can choose."""
    found, order, before = dict(mine), list(mine), len(mine)
    for name, change in changes.items():
        if change is None:
            if name not in found:
                raise ValueError(
                    f"{show(path)}: arms.{name} is null, but params.yaml has no such arm: remove "
                    "that line"
                )
            del found[name]
            continue
        if name not in order:
            order.insert(before, name)
        old = found.get(name)
        found[name] = (
            old | change if isinstance(old, dict) and isinstance(change, dict) else change
        )
        before = order.index(name) + 1
    return {name: found[name] for name in order if name in found}


def as_text(values: dict[str, Any], path: Path) -> str:
    """Return merged values as the YAML file that a profile's clone gets."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.width = None, 100
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.allow_unicode = True
    stream = io.StringIO()
    stream.write(
        f"# params.yaml with the differences of {path.name}: edit those, not this file.\n"
    )
    yaml.dump(values, stream)
    return stream.getvalue()
