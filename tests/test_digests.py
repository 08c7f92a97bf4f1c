"""Digests of code: what changes one, what does not, and whose closure a module is in."""

from __future__ import annotations

import ast
import itertools

import pytest

from dft_lib.repro import digests

COUNT = itertools.count()
MODULES = {
    "__init__.py": '"""A package."""\n',
    "verb.py": '"""A verb."""\n\nfrom {p}.room import tool\n\n\ndef run(x: int) -> int:\n'
    '    """Run."""\n    return tool.work(x)  # so it is\n',
    "other.py": "VALUE = 1\n",
    "room/__init__.py": '"""A room."""\n',
    "room/tool.py": "from __future__ import annotations\n\nfrom typing import TYPE_CHECKING\n\n"
    "if TYPE_CHECKING:\n    from {p} import other\n\n\ndef work(x):\n    return x\n",
    "room/table.csv": "a,b\n",
    "room/more/names.txt": "a\n",
    "plugins/__init__.py": "",
    "plugins/one.py": "from {p} import other\n",
    "plugins/two.py": "",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return the folder of a small importable package; its name is new in every test."""
    folder = tmp_path / f"toy{next(COUNT)}"
    for name, text in MODULES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(p=folder.name))
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def digest(package, *roots):
    return digests.Code(package.name).digest(*(f"{package.name}.{root}" for root in roots))


def edit(package, name, old, new):
    text = (package / name).read_text()
    assert old in text
    (package / name).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("verb.py", "# so it is", "# or not"),
        ("verb.py", '"""Run."""', '"""Run it.\n\n    Twice.\n    """'),
        ("verb.py", '"""A verb."""', '"""Another verb."""'),
        ("verb.py", "return tool.work(x)", "return (\n        tool.work(x)\n    )"),
        ("room/__init__.py", "A room.", "Another room."),
        ("room/tool.py", "from {p} import other", "from {p} import verb"),  # for checkers only
        ("other.py", "1", "2"),  # nobody in the closure imports it
        ("plugins/two.py", "", "VALUE = 1"),
    ],
)
def test_what_leaves_a_digest_alone(package, name, old, new):
    before = digest(package, "verb")
    edit(package, name, old.format(p=package.name), new.format(p=package.name))
    if name == "room/tool.py":  # the module itself changed, its closure did not
        assert f"{package.name}.other" not in digests.Code(package.name).closure(
            [f"{package.name}.verb"]
        )
        return
    assert digest(package, "verb") == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("verb.py", "tool.work(x)", "tool.work(x + 1)"),
        ("verb.py", "x: int", "x: float"),
        ("verb.py", "    return", "    'no docstring'\n    'here'\n    return"),
        ("room/tool.py", "return x", "return -x"),
        ("room/tool.py", "return x", "return None"),
        ("room/tool.py", "return x", "return"),
        ("room/__init__.py", '"""A room."""', "from {p} import other"),
        ("__init__.py", '"""A package."""', "VALUE = 1"),
        ("room/table.csv", "a", "c"),
        ("room/more/names.txt", "a", "c"),
    ],
)
def test_what_changes_a_digest(package, name, old, new):
    before = digest(package, "verb")
    edit(package, name, old, new.format(p=package.name))
    assert digest(package, "verb") != before


def test_none_and_nothing_are_not_the_same(tmp_path):
    found = set()
    texts = (
        "x = None",
        "x = 0",
        "x = ''",
        "x = ()",
        "x = []",
        "x = {}",
        "f()",
        "f(None)",
        "x: None",
    )
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.py").write_text(text)
        found.add(digests.syntax(tmp_path / f"{number}.py"))
    assert len(found) == len(texts)


def test_an_init_pulls_in_what_it_imports(package):
    root = f"{package.name}.verb"
    other = f"{package.name}.other"
    assert other not in digests.Code(package.name).closure([root])
    (package / "room" / "__init__.py").write_text(f"from {package.name} import other\n")
    assert other in digests.Code(package.name).closure([root])


def test_a_plug_in_counts_where_it_is_named(package):
    name = package.name
    code = digests.Code(name)
    assert code.modules(f"{name}.plugins") == [f"{name}.plugins.one", f"{name}.plugins.two"]
    before = digest(package, "verb", "plugins.one"), digest(package, "verb", "plugins.two")
    edit(package, "other.py", "1", "2")  # an import of the plug-in
    after = digest(package, "verb", "plugins.one"), digest(package, "verb", "plugins.two")
    assert before[0] != after[0] and before[1] == after[1]


def test_every_file_is_parsed_once(package, monkeypatch):
    parsed = []
    parse = ast.parse
    monkeypatch.setattr(ast, "parse", lambda *a, **k: parsed.append(a) or parse(*a, **k))
    code = digests.Code(package.name)
    for _ in range(3):
        code.digest()
        code.lines([f"{package.name}.verb"])
    assert len(parsed) == sum(name.endswith(".py") for name in MODULES)


def test_bad_roots_and_bad_python_are_said(package):
    with pytest.raises(ModuleNotFoundError, match=r"has no module .*\.nothing"):
        digest(package, "nothing")
    with pytest.raises(ModuleNotFoundError, match="no package 'toy_none'"):
        digests.Code("toy_none")
    with pytest.raises(ValueError, match=r"bad\.py, line 2: .*mend that line"):
        digests.parse("x = 1\nx = = 1\n", package / "bad.py")


NOTEBOOK = """\
# %% [markdown]
# # A title
# from dft_lib import nothing

# %%
import os.path

from dft_lib.repro import digests

# %% tags=["parameters"]
value = 1

# %%
# so it is
print(value)
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("A title", "Another", True),
        ("# so it is", "# or not", True),
        ("# so it is", "# %timeit 1", False),
        ("# so it is", "# !ls", False),
        ("print(value)", "print(value + 1)", False),
        ('tags=["parameters"]', "", False),
        ("# so it is\n", "value\n\n# %%\n", False),
    ],
)
def test_a_notebook_is_its_code_cells(tmp_path, old, new, same):
    path = tmp_path / "01_a.py"
    path.write_text(NOTEBOOK)
    before, names = digests.notebook(path)
    assert names == {"os.path", "dft_lib.repro", "dft_lib.repro.digests"}
    assert old in NOTEBOOK
    path.write_text(NOTEBOOK.replace(old, new))
    assert (digests.notebook(path)[0] == before) is same
