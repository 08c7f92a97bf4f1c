"""The drawings: emoji of four families, with their attributes, source and licence.

Run ``python -m dft_lib.world.art`` to rebuild ``data/art/*.parquet`` from the npm packages named
in `FAMILIES` (needs ``npm`` and a network; everything else in the world works from the Parquet
files). One row is one drawing; attributes come from the Unicode sequence, never from a person.

Three words need care. ``person`` drawings (U+1F9D1) show no stated gender: they never enter the
generator's corpus, and are what the raters' answer ``unclear`` is calibrated on. The yellow
``default`` is no skin tone: it never enters the corpus either, and the tone raters should answer
``unclear`` to it. ``none`` marks drawings without a person.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from dft_lib.raters.drawings.skin_colours import TRAINED_FAMILIES
from dft_lib.repro.paths import DATA, enter, show

GENDERS = ("woman", "man")

FAMILIES: dict[str, dict[str, str]] = {
    "noto": {
        "package": "@iconify-json/noto@1.2.9",
        "licence": "Apache-2.0",
        "attribution": "Noto Emoji, Google Inc., github.com/googlefonts/noto-emoji",
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

# profession -> ("zwj", object) for person + object, ("sign", base) for base + gender sign
PROFESSIONS: dict[str, tuple[str, str]] = {
    "artist": ("zwj", "1f3a8"),
    "astronaut": ("zwj", "1f680"),
    "construction worker": ("sign", "1f477"),
    "cook": ("zwj", "1f373"),
    "detective": ("sign", "1f575"),
    "factory worker": ("zwj", "1f3ed"),
    "farmer": ("zwj", "1f33e"),
    "firefighter": ("zwj", "1f692"),
    "guard": ("sign", "1f482"),
    "health worker": ("zwj", "2695"),
    "judge": ("zwj", "2696"),
    "mechanic": ("zwj", "1f527"),
    "office worker": ("zwj", "1f4bc"),
    "pilot": ("zwj", "2708"),
    "police officer": ("sign", "1f46e"),
    "scientist": ("zwj", "1f52c"),
    "singer": ("zwj", "1f3a4"),
    "student": ("zwj", "1f393"),
    "teacher": ("zwj", "1f3eb"),
    "technologist": ("zwj", "1f4bb"),
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
_SIGNS = {"woman": "2640", "man": "2642", "person": ""}
_BASES = {"woman": "1f469", "man": "1f468", "person": "1f9d1"}
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


def sequences() -> list[dict[str, str]]:
    """List every wanted drawing: its attributes and its Unicode sequence (without U+FE0F)."""
    rows: list[dict[str, str]] = []
    for tone, modifier in _MODIFIERS.items():
        for name, (kind, code) in PROFESSIONS.items():
            for gender in (*GENDERS, "person"):
                if kind == "zwj":
                    parts = [_BASES[gender], modifier, "200d", code]
                else:
                    sign = _SIGNS[gender]
                    parts = [code, modifier, *(["200d", sign] if sign else [])]
                rows.append(
                    {
                        "kind": "profession", "name": name, "gender": gender, "skin_tone": tone,
                        "age": "adult", "sequence": "-".join(p for p in parts if p),
                    }
                )  # fmt: skip
        for (age, gender), code in _PEOPLE.items():
            rows.append(
                {
                    "kind": "generic person", "name": "person", "gender": gender,
                    "skin_tone": tone, "age": age,
                    "sequence": "-".join(p for p in (code, modifier) if p),
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


def read_package(family: str, folder: Path) -> dict[str, str]:
    """Return {sequence without U+FE0F: SVG text} of an unpacked npm package."""
    if family in ("noto", "fluent"):  # Iconify: bodies by name, names by sequence
        icons = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
        chars = json.loads((folder / "chars.json").read_text(encoding="utf-8"))
        side = icons["width"]
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}">'
        return {
            _plain(sequence): f"{head}{icons['icons'][name]['body']}</svg>"
            for sequence, name in chars.items()
            if name in icons["icons"]
        }
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


def build(family: str, into: Path) -> pd.DataFrame:
    """Build the table of one family from its npm package, downloaded into `into`.

    Raises
    ------
    ValueError
        If a wanted drawing is missing from the package.
    """
    folder, sha256 = fetch(family, into)
    svgs = read_package(family, folder)
    rows: list[dict[str, Any]] = []
    for wanted in sequences():
        svg = svgs.get(wanted["sequence"])
        if svg is None:
            raise ValueError(
                f"{FAMILIES[family]['package']}: no drawing for {wanted['sequence']} "
                f"({wanted['name']}, {wanted['gender']}); pin the version named in FAMILIES"
            )
        rows.append({"family": family, **wanted, "svg": svg, **FAMILIES[family], "sha256": sha256})
    return pd.DataFrame(rows)


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
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    """Rebuild ``data/art/emoji.parquet`` and ``data/art/openmoji.parquet``."""
    enter()
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=DATA / "art")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tables = {family: build(family, Path(scratch)) for family in FAMILIES}
    trained = pd.concat([tables[f] for f in TRAINED_FAMILIES], ignore_index=True)
    for name, table in (("emoji", trained), ("openmoji", tables["openmoji"])):
        table.to_parquet(out / f"{name}.parquet", compression="zstd", index=False)
        print(f"{name}: {len(table)} drawings")


if __name__ == "__main__":
    main()
