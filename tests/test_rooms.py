"""The rule of imports: docs/architecture.md draws the floors, the code keeps to them."""

import ast
import re

import grimp
import pytest

from dft_lib.repro.paths import ROOT

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FLOOR = {room: int(floor) for floor, rooms in re.findall(r"^ +(\d+)  (.+)$", TEXT, re.M)
         for room in rooms.split(" · ")}  # fmt: skip
SENTENCES = dict(re.findall(r"^\| `([a-z_.]+)` \| (.+) \|$", TEXT.split("## The way")[0], re.M))
GRAPH = grimp.build_graph("dft_lib", include_external_packages=True, cache_dir=None)
OURS = sorted(m for m in GRAPH.modules if m.startswith("dft_lib."))
PACKAGES = [m for m in OURS if GRAPH.find_children(m)]
ARROWS = [(a, b) for a in OURS for b in sorted(GRAPH.find_modules_directly_imported_by(a))]


def room(module):
    return module.split(".")[1]


def test_imports_go_down():
    ours = [(a, b) for a, b in ARROWS if b.startswith("dft_lib.") and room(a) != room(b)]
    assert len(ours) > 100
    assert [(a, b) for a, b in ours if FLOOR[room(a)] <= FLOOR[room(b)]] == []


def test_every_room_is_on_the_map_and_says_what_it_holds():
    assert set(FLOOR) == {room(m) for m in OURS}
    assert set(SENTENCES) == {m.removeprefix("dft_lib.") for m in [*PACKAGES, "dft_lib.cli"]}
    for name, sentence in SENTENCES.items():
        path = ROOT.joinpath("src/dft_lib", *name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert docstring.split("\n")[0] == sentence


def test_nobody_imports_stages_and_only_real_the_world():
    outside = [(a, b) for a, b in ARROWS if room(a) != "world" and "dft_lib.world" in b]
    assert {a for a, _ in outside} == {"dft_lib.stages.real"}
    assert [a for a, b in ARROWS if "dft_lib.stages" in b] == []


@pytest.mark.parametrize("name", ["evaluation", "fairness", "study"])
def test_tables_load_no_torch(name):
    closure = GRAPH.find_upstream_modules(f"dft_lib.{name}", as_package=True)
    assert not closure & {"torch", "diffusers", "transformers"}
    assert "numpy" in closure


def test_plugins_are_imported_by_nobody():
    kinds = ("dft_lib.recipes.", "dft_lib.interventions.")
    shared = {"dft_lib.interventions.base", "dft_lib.interventions.people"}
    assert [(a, b) for a, b in ARROWS if b.startswith(kinds) and b not in shared] == []


@pytest.mark.parametrize("package", ["dft_lib", *PACKAGES])
def test_rooms_are_small(package):
    modules = GRAPH.find_children(package) - {*PACKAGES}
    assert len(modules) <= 15


def test_inner_rooms_make_no_circle():
    for inner in (p for p in PACKAGES if p.count(".") == 2):
        outer = inner.rpartition(".")[0]
        inside = {m for m in OURS if m.startswith(inner)}
        around = {m for m in OURS if m.startswith(outer)} - inside
        ways = {(a in inside) for a, b in ARROWS if {a, b} & inside and {a, b} & around}
        assert len(ways) <= 1
