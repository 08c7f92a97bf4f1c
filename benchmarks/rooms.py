"""Rooms, floors, arrows and circles of the library: ``benchmarks/rooms.py [--at REVISION]``.

A room is a package that holds modules itself (``dft_lib.raters``, ``dft_lib.raters.drawings``);
a module that lies directly in ``dft_lib`` is a room of its own. An arrow leads from one room to
another that it imports, however often. A circle is a set of rooms that can reach each other; its
rooms share a floor. A room's floor is the length of the longest way down from it.

What only type checkers see is counted too: a reader follows it. Modules that are loaded by name
(recipes, interventions, raters) make no arrow.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "dft_lib"
Arrows = dict[str, set[str]]


def room_of(module: str, packages: set[str]) -> str:
    """Return the room of a module: the package that holds it, or itself if none below dft_lib."""
    home = module if module in packages else module.rpartition(".")[0]
    return (module if home == PACKAGE else home).removeprefix(f"{PACKAGE}.")


def read(source: Path) -> tuple[Counter[str], Arrows]:
    """Return the number of modules per room, and the rooms that each room imports.

    Parameters
    ----------
    source : pathlib.Path
        The folder that holds the package; nothing in it is imported.
    """
    sys.path.insert(0, str(source))
    try:
        graph = grimp.build_graph(PACKAGE, cache_dir=None)
    finally:
        sys.path.remove(str(source))
    packages = {m for m in graph.modules if graph.find_children(m)} - {PACKAGE}
    modules = graph.modules - {PACKAGE}
    sizes = Counter(room_of(m, packages) for m in modules - packages)
    arrows: Arrows = {room: set() for room in sizes}
    for module in modules:
        mine = room_of(module, packages)
        for other in graph.find_modules_directly_imported_by(module) - {PACKAGE}:
            if room_of(other, packages) != mine:
                arrows.setdefault(mine, set()).add(room_of(other, packages))
    return sizes, arrows


def reach(arrows: Arrows) -> Arrows:
    """Return all rooms that each room can reach."""
    found: Arrows = {}
    for room in arrows:
        todo, seen = list(arrows[room]), set[str]()
        while todo:
            if (other := todo.pop()) not in seen:
                seen.add(other)
                todo += arrows.get(other, ())
        found[room] = seen
    return found


def circles(arrows: Arrows) -> list[list[str]]:
    """Return the sets of rooms that can reach each other."""
    far = reach(arrows)
    found = {
        tuple(sorted({a, *(b for b in far[a] if a in far.get(b, ()))})) for a in far if a in far[a]
    }
    return [list(circle) for circle in sorted(found)]


def floors(arrows: Arrows) -> dict[str, int]:
    """Return each room's floor, 0 for those that import nothing of the library."""
    far = reach(arrows)
    heights: dict[str, int] = {}

    def height(room: str) -> int:
        if room not in heights:
            same = {room} | {b for b in far[room] if room in far[b]}
            below = set().union(*(arrows[r] for r in same)) - same
            heights.update(dict.fromkeys(same, 1 + max(map(height, below), default=-1)))
        return heights[room]

    return {room: height(room) for room in arrows}


def unpacked(revision: str, folder: Path) -> Path:
    """Write the library of a git revision into a folder; return what holds the package."""
    done = subprocess.run(
        ["git", "archive", revision, f"src/{PACKAGE}"], cwd=ROOT, capture_output=True
    )
    if done.returncode:
        sys.exit(f"git has no src/{PACKAGE} at {revision!r}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


def main() -> None:
    """Print the house of the work tree, or of a revision."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at", metavar="REVISION", help="a git revision (default: work tree)")
    parser.add_argument("--json", action="store_true", help="print the counts only, as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = unpacked(arguments.at, Path(folder)) if arguments.at else ROOT / "src"
        sizes, arrows = read(source)
    floor = floors(arrows)
    counts = {
        "rooms": len(arrows), "floors": max(floor.values()) + 1,
        "arrows": sum(map(len, arrows.values())), "circles": len(circles(arrows)),
        "modules": sum(sizes.values()), "largest": max(sizes.values()),
    }  # fmt: skip
    if arguments.json:
        print(json.dumps(counts))
        return
    for room in sorted(arrows, key=lambda r: (-floor[r], r)):
        listed = ", ".join(sorted(arrows[room])) or "nothing"
        print(f"{floor[room]:2}  {room} ({sizes[room]}) -> {listed}")
    for circle in circles(arrows):
        print("circle:", ", ".join(circle))
    print(", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
