"""The drawings: emoji of several families, with their attributes, source and licence.

Run ``make art`` to download them from the npm packages named in `FAMILIES` (needs ``npm`` and a
network; everything else in the world works from ``data/art/*.parquet``). One row is one drawing;
attributes come from the Unicode sequence, never from a person. Which roles there are, and which
part of a drawing is shown, say ``roles.csv`` and ``crops.csv`` of the world's folder. A family
takes part in a role with all ten drawings of it, or not at all.

Three words need care. ``person`` drawings (U+1F9D1) show no stated gender: they never enter the
generator's corpus, and are what the raters' answer ``unclear`` is calibrated on. The yellow
``default`` is no skin tone: it never enters the corpus either, and the tone raters should answer
``unclear`` to it. ``none`` marks drawings without a person.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dft_lib.raters.drawings.skin_colours import TONES, TRAINED_FAMILIES
from dft_lib.repro.paths import DATA, enter, show
from dft_lib.study.kinds import KINDS
from dft_lib.world.settings import named, read_table

GENDERS = ("woman", "man")
NO_ROLE = ("generic person", "object")  # kinds of drawing that every family must have
_VIEWBOX = re.compile(r'viewBox="([^"]+)"')

FAMILIES: dict[str, dict[str, str]] = {
    "noto": {
        "package": "@iconify-json/noto@1.2.9",
        "licence": "Apache-2.0",
        "attribution": "Noto Emoji, Google Inc., github.com/googlefonts/noto-emoji",
    },
    "noto-v1": {
        "package": "@iconify-json/noto-v1@1.2.5",
        "licence": "Apache-2.0",
        "attribution": "Noto Emoji (2016 to 2020), Google Inc., github.com/googlefonts/noto-emoji",
    },
    "fluent": {
        "package": "@iconify-json/fluent-emoji-flat@1.2.6",
        "licence": "MIT",
        "attribution": "Fluent Emoji, Microsoft Corporation, github.com/microsoft/fluentui-emoji",
    },
    "twemoji": {
        "package": "@twemoji/svg@15.0.0",
        "licence": "CC-BY-4.0",
        "attribution": "Twemoji, Twitter Inc. and contributors, github.com/jdecked/twemoji",
    },
    "openmoji": {
        "package": "openmoji@17.0.0",
        "licence": "CC-BY-SA-4.0",
        "attribution": "OpenMoji, HfG Schwaebisch Gmuend and contributors, openmoji.org",
    },
}

_PEOPLE = {  # (age, gender) -> code point
    ("young", "person"): "1f9d2",
    ("young", "man"): "1f466",
    ("young", "woman"): "1f467",
    ("adult", "person"): "1f9d1",
    ("adult", "man"): "1f468",
    ("adult", "woman"): "1f469",
    ("old", "person"): "1f9d3",
    ("old", "man"): "1f474",
    ("old", "woman"): "1f475",
}
_MODIFIERS = {
    "default": "",
    "light": "1f3fb",
    "medium-light": "1f3fc",
    "medium": "1f3fd",
    "medium-dark": "1f3fe",
    "dark": "1f3ff",
}
OBJECTS = {
    "dog": "1f436", "cat": "1f431", "lion": "1f981", "tiger": "1f42f", "horse": "1f434",
    "cow": "1f42e", "pig": "1f437", "frog": "1f438", "chicken": "1f414", "penguin": "1f427",
    "owl": "1f989", "butterfly": "1f98b", "fish": "1f41f", "octopus": "1f419", "turtle": "1f422",
    "apple": "1f34e", "banana": "1f34c", "grapes": "1f347", "strawberry": "1f353",
    "pineapple": "1f34d", "carrot": "1f955", "bread": "1f35e", "cheese": "1f9c0",
    "pizza": "1f355", "hamburger": "1f354", "mushroom": "1f344", "car": "1f697", "bus": "1f68c",
    "bicycle": "1f6b2", "rocket": "1f680", "house": "1f3e0", "book": "1f4d5", "guitar": "1f3b8",
    "key": "1f511", "tree": "1f333", "sunflower": "1f33b", "star": "2b50", "sun": "2600",
    "balloon": "1f388", "umbrella": "2614",
}  # fmt: skip


def sequences(roles: pd.DataFrame) -> list[dict[str, str]]:
    """List every wanted drawing: its attributes and its Unicode sequence (without U+FE0F).

    Parameters
    ----------
    roles : pandas.DataFrame
        Columns ``noun, kind, woman, man, person``: a sequence for each, "~" where the skin tone
        goes; empty where Unicode has none.
    """
    rows: list[dict[str, str]] = []
    for tone, modifier in _MODIFIERS.items():
        after = f"-{modifier}" if modifier else ""
        for role in roles.to_dict("records"):
            for gender in (*GENDERS, "person"):
                if role[gender]:
                    rows.append(
                        {
                            "kind": role["kind"], "name": role["noun"], "gender": gender,
                            "skin_tone": tone, "age": "adult",
                            "sequence": role[gender].replace("~", after),
                        }
                    )  # fmt: skip
        for (age, gender), code in _PEOPLE.items():
            rows.append(
                {
                    "kind": "generic person", "name": "person", "gender": gender,
                    "skin_tone": tone, "age": age, "sequence": code + after,
                }
            )  # fmt: skip
    for name, code in OBJECTS.items():
        rows.append(
            {
                "kind": "object", "name": name, "gender": "none", "skin_tone": "none",
                "age": "none", "sequence": code,
            }
        )  # fmt: skip
    return rows


def _plain(sequence: str) -> str:
    return "-".join(p for p in sequence.lower().split("-") if p != "fe0f")


def read_package(family: str, folder: Path, names: dict[str, str]) -> dict[str, str]:
    """Return {sequence without U+FE0F: SVG text} of an unpacked npm package.

    `names` are Noto's names of the sequences: Noto v1 names its drawings alike, but its own list
    of sequences leaves the skin tones out.
    """
    if family in ("noto", "noto-v1", "fluent"):  # Iconify: bodies by name, names by sequence
        icons = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
        chars = json.loads((folder / "chars.json").read_text(encoding="utf-8"))
        if family == "noto-v1":
            chars |= names
        bodies = {name: icon["body"] for name, icon in icons["icons"].items()}
        for name, alias in icons.get("aliases", {}).items():
            if alias["parent"] in bodies:
                bodies[name] = bodies[alias["parent"]]
        side = icons["width"]
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">'
        return {_plain(s): f"{head}{bodies[n]}</svg>" for s, n in chars.items() if n in bodies}
    files = folder / "color" / "svg" if family == "openmoji" else folder
    return {_plain(p.stem): p.read_text(encoding="utf-8") for p in sorted(files.glob("*.svg"))}


def fetch(family: str, into: Path) -> tuple[Path, str]:
    """Download the family's npm package; return its unpacked folder and the archive's sha256."""
    spec = FAMILIES[family]["package"]
    out = subprocess.run(
        ["npm", "pack", spec, "--silent"], cwd=into, check=True, capture_output=True, text=True
    )
    archive = into / out.stdout.strip().splitlines()[-1]
    folder = into / family
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / "package", hashlib.sha256(archive.read_bytes()).hexdigest()


def shown_part(svg: str, crop: tuple[float, float, float] | None) -> str:
    """Return the viewBox of a drawing's part: left, top and side as shares of its side.

    Raises
    ------
    ValueError
        If the text is no SVG with a viewBox.
    """
    found = _VIEWBOX.search(svg)
    if found is None:
        raise ValueError("not an SVG with a viewBox; rebuild data/art with `make art`")
    x, y, width, height = (float(value) for value in found[1].split())
    left, top, side = crop or (0.0, 0.0, 1.0)
    return f"{x + left * width:g} {y + top * height:g} {side * width:g} {side * height:g}"


def build(family: str, into: Path, roles: pd.DataFrame, crops: pd.DataFrame) -> pd.DataFrame:
    """Build the table of one family from its npm package, downloaded into `into`.

    Parameters
    ----------
    roles : pandas.DataFrame
        See `sequences`.
    crops : pandas.DataFrame
        Columns ``noun, family, x, y, side``, in percent; noun "*" is every role without a row.

    Raises
    ------
    ValueError
        If a drawing of a person without a role, or of a thing, is missing from the package.
    """
    folder, sha256 = fetch(family, into)
    names: dict[str, str] = {}
    if family == "noto-v1":
        named, _ = fetch("noto", into)
        names = json.loads((named / "chars.json").read_text(encoding="utf-8"))
    svgs = read_package(family, folder, names)
    crop = {row.noun: (row.x / 100, row.y / 100, row.side / 100)
            for row in crops[crops["family"] == family].itertuples()}  # fmt: skip
    rows: list[dict[str, Any]] = []
    for drawing in sequences(roles):
        svg, role = svgs.get(drawing["sequence"]), drawing["kind"] not in NO_ROLE
        needed = drawing["skin_tone"] != "default" and drawing["gender"] != "person"
        if svg is None and needed and not role:
            raise ValueError(
                f"{FAMILIES[family]['package']}: no drawing for {drawing['sequence']} "
                f"({drawing['name']}, {drawing['gender']}); pin the version named in FAMILIES"
            )
        if svg is not None:
            part = crop.get(drawing["name"], crop.get("*")) if role else None
            rows.append({"family": family, **drawing, "crop": shown_part(svg, part), "svg": svg,
                         **FAMILIES[family], "sha256": sha256})  # fmt: skip
    table = pd.DataFrame(rows)
    pairs = table[table["gender"].isin(GENDERS) & table["skin_tone"].isin(TONES)]
    whole = pairs.groupby("name").size() >= len(GENDERS) * len(TONES)
    left_out = ~table["kind"].isin(NO_ROLE) & ~table["name"].map(whole).fillna(False).astype(bool)
    return table[~left_out].reset_index(drop=True)


def load(families: tuple[str, ...] = TRAINED_FAMILIES) -> pd.DataFrame:
    """Read the drawings of the named families, one row per drawing, from ``data/art/``.

    Raises
    ------
    FileNotFoundError
        If ``data/`` has not been pulled.
    """
    tables = []
    for name in families:
        path = DATA / "art" / ("openmoji.parquet" if name == "openmoji" else "emoji.parquet")
        if not path.exists():
            raise FileNotFoundError(f"{show(path)} is missing: run `dvc pull data.dvc` first")
        table = pd.read_parquet(path)
        tables.append(table[table["family"] == name])
    found = pd.concat(tables, ignore_index=True)
    if "crop" not in found:  # the first edition's table: Fluent's roles are busts drawn small
        bust = found["kind"].isin(KINDS) & (found["family"] == "fluent")
        found["crop"] = np.where(bust, "3 1.5 26 26", [shown_part(s, None) for s in found["svg"]])
    return found


def wanted(folder: Path, lists: Sequence[str] = ("roles",)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read which roles a world draws (see `sequences`), and its crops (see `build`).

    Raises
    ------
    FileNotFoundError, ValueError
        With one sentence, if a table is missing or lacks a column.
    """
    columns = ("noun", "kind", *GENDERS, "person")
    roles = pd.concat([read_table(folder, name, columns) for name in lists], ignore_index=True)
    return roles, read_table(folder, "crops", ("noun", "family", "x", "y", "side"))


def main() -> None:
    """Download the drawings of a world; write ``emoji.parquet`` and ``openmoji.parquet``."""
    enter()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--world", type=named, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    try:
        tables_of = wanted(chosen.world.folder)
        with tempfile.TemporaryDirectory() as scratch:
            tables = {family: build(family, Path(scratch), *tables_of) for family in FAMILIES}
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    trained = pd.concat([t for name, t in tables.items() if name != "openmoji"], ignore_index=True)
    for name, table in (("emoji", trained), ("openmoji", tables["openmoji"])):
        # like beside like: a quarter of the bytes
        table = table.sort_values(["family", "kind", "name", "gender", "age"], kind="stable")
        table.to_parquet(chosen.out / f"{name}.parquet", compression="zstd", compression_level=19,
                         index=False)  # fmt: skip
        print(f"{name}: {len(table)} drawings")


if __name__ == "__main__":
    main()
