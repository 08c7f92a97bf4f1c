"""Notebooks stay thin, paired and runnable; their parameters are those of the study."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile

import jupytext
import nbformat
import pytest

from dft_lib.repro.paths import NOTEBOOKS, ROOT, SCRATCH
from dft_lib.runner import notebook
from dft_lib.study.base import smoke_base
from dft_lib.study.params import whole

NAMES = sorted(p.stem for p in NOTEBOOKS.glob("0*.py"))
READ = {name: jupytext.read(NOTEBOOKS / f"{name}.py") for name in NAMES}


def code(name):
    return [c.source for c in READ[name].cells if c.cell_type == "code"]


def test_they_are_numbered():
    assert [n.partition("_")[0] for n in NAMES] == ["01", "02", "02b", "03", "04", "04b", "05"]


@pytest.mark.parametrize("name", NAMES)
def test_thin(name):
    cells = code(name)
    text = [c for c in READ[name].cells if c.cell_type == "markdown"]
    lines = [line for c in cells for line in c.splitlines() if line.strip()]
    assert len(text) >= len(cells)
    assert len(lines) <= 120
    values = [c.source for c in READ[name].cells if "parameters" in c.metadata.get("tags", [])]
    assert max(len(c.splitlines()) for c in cells if c not in values) <= 25
    for cell in cells:
        assert not re.search(r"^\s*[!%]", cell, re.M)
        for node in ast.walk(ast.parse(cell)):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not node.value.startswith("/")
    with_imports = [c for c in cells if re.search(r"^(import|from) ", c, re.M)]
    assert len(with_imports) == 1
    first, last = READ[name].cells[0].source, cells[-1]
    for word in ("Question", "| in |", "| out |", "| minutes |"):
        assert word in first
    assert "assert" in last
    assert "## Try it" in "\n".join(c.source for c in text)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_the_groups(name):
    declared = notebook.declared_parameters(READ[name])
    arm = "dft" if name in ("03_finetune", "04_evaluate") else None
    assert set(declared) == set(notebook.values_for(name, arm, whole.load()))
    assert len(declared) == len(set(declared))


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_in_sync_and_without_outputs(name):
    paired = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    assert [c.source for c in paired.cells] == [c.source for c in READ[name].cells]
    for cell in paired.cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    assert "kernelspec" not in paired.metadata


def tracked_state():
    return subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("name", NAMES)
def test_opening_and_running_all_cells_works_offline(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)  # independence of the working directory
    shutil.rmtree(SCRATCH / "open", ignore_errors=True)
    before = tracked_state()
    result = notebook.run(NOTEBOOKS / f"{name}.py", defaults(name), tmp_path / f"{name}.ipynb")
    assert tracked_state() == before
    shown = [o for c in result.cells if c.cell_type == "code" for o in c.outputs]
    assert any("image/png" in o.get("data", {}) for o in shown), "no picture"


def defaults(name):
    """Return the notebook's own parameter values, as running all cells by hand uses them."""
    cell = next(c for c in READ[name].cells if "parameters" in c.metadata.get("tags", []))
    space = {"smoke_base": smoke_base}
    exec(cell.source, space)
    return {k: space[k] for k in notebook.declared_parameters(READ[name])}


def test_executed_copies_are_byte_identical(tmp_path):
    values = defaults("01_prompts")
    for copy in ("a", "b"):
        notebook.run(NOTEBOOKS / "01_prompts.py", values, tmp_path / f"{copy}.ipynb")
    assert (tmp_path / "a.ipynb").read_bytes() == (tmp_path / "b.ipynb").read_bytes()


def test_unknown_and_missing_parameters_are_refused(tmp_path):
    values = defaults("01_prompts")
    with pytest.raises(ValueError, match="'imges_per_cell' stands only in params.yaml"):
        notebook.run(
            NOTEBOOKS / "01_prompts.py", values | {"imges_per_cell": 1}, tmp_path / "a.ipynb"
        )
    del values["out"]
    with pytest.raises(ValueError, match="'out' stands only in the parameters cell"):
        notebook.run(NOTEBOOKS / "01_prompts.py", values, tmp_path / "a.ipynb")


def test_types_survive(tmp_path):
    source = tmp_path / "typed.py"
    source.write_text(
        '# %% tags=["parameters"]\nrate, flag, none, many = 0.1, True, None, []\n\n'
        "# %%\nprint(repr((rate, flag, none, many)))\n",
        encoding="utf-8",
    )
    values = {"rate": 1e-05, "flag": False, "none": None, "many": [1, "a", {"b": 0.5}]}
    result = notebook.run(source, values, tmp_path / "typed.ipynb")
    assert result.cells[-1].outputs[0].text == "(1e-05, False, None, [1, 'a', {'b': 0.5}])\n"


def test_a_killed_kernel_is_one_sentence(tmp_path, monkeypatch):
    source = tmp_path / "01_prompts.py"
    source.write_text(
        '# %% tags=["parameters"]\nbase = None\n\n# %%\nimport os\n\nos.kill(os.getpid(), 9)\n',
        encoding="utf-8",
    )
    monkeypatch.setattr(notebook, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(notebook, "ROOT", tmp_path)
    monkeypatch.setattr(notebook, "values_for", lambda *_: {"base": 1})
    monkeypatch.setattr("sys.argv", ["notebook", "01_prompts"])
    said = r"^01_prompts: the kernel was ended from outside.*GB of memory.*run again"
    with pytest.raises(SystemExit, match=said):
        notebook.main()


SHOWN = """\
# %% tags=["parameters"]
folder = ""

# %%
import os, sys, tempfile
import matplotlib.pyplot as plt
import pandas
import dft_lib
print(plt.get_backend(), plt.rcParams["figure.dpi"], bool(pandas.DataFrame.__doc__))
print(dft_lib.__file__ == folder + "/src/dft_lib/__init__.py", "hello" in globals())

# %%
plt.plot([1, 2])
plt.show()
"""


@pytest.fixture
def shown(tmp_path):
    """Return a function that runs a small notebook and returns its executed copy's bytes."""
    source = tmp_path / "shown.py"
    source.write_text(SHOWN, encoding="utf-8")

    def run():
        before = dict(os.environ)
        notebook.run(source, {"folder": str(ROOT)}, tmp_path / "out.ipynb")
        assert dict(os.environ) == before
        return (tmp_path / "out.ipynb").read_bytes()

    return run


def test_nothing_of_the_readers_changes_an_executed_copy(shown, tmp_path, monkeypatch):
    plain = shown()
    assert b"inline 100.0 True" in plain and b"True False" in plain and b"image/png" in plain
    profile = tmp_path / "home" / ".ipython" / "profile_default"
    (profile / "startup").mkdir(parents=True)
    (profile / "startup" / "00.py").write_text("hello = 1\nprint(hello)\n")
    (profile / "ipython_kernel_config.py").write_text("c.InlineBackend.figure_formats = {'svg'}\n")
    (tmp_path / "home" / ".config" / "matplotlib").mkdir(parents=True)
    rc = tmp_path / "home" / ".config" / "matplotlib" / "matplotlibrc"
    rc.write_text("figure.dpi: 300\nlines.linewidth: 9\n")
    other = tmp_path / "other" / "dft_lib"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    for name, value in {
        "HOME": tmp_path / "home", "MPLBACKEND": "agg", "MATPLOTLIBRC": rc, "PYTHONOPTIMIZE": "2",
        "IPYTHONDIR": tmp_path / "home" / ".ipython", "PYTHONPATH": other.parent,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    assert shown() == plain


@pytest.mark.parametrize("name", ["long" * 24, "sp ace", "a${b}{c}#'%s", "c:d", "ünï"])
def test_any_temporary_folder_will_do(shown, tmp_path, monkeypatch, name):
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    assert b"True False" in shown()
    assert list((tmp_path / name).iterdir()) == []


def test_no_folder_is_short_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 24)))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match=r"^TMPDIR is .*too long for the sockets.*set TMPDIR"):
        notebook.short_folder()


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_papermill_knows_the_language(name):
    assert READ[name].metadata["language_info"] == {"name": "python"}
    paired = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    assert paired.metadata["language_info"] == {"name": "python"}
    # as Jupyter saves it, with versions: the .py stays what it is
    paired.metadata["language_info"] = {"name": "python", "version": "3.11.5"}
    paired.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "P"}
    assert jupytext.writes(paired, "py:percent") == (NOTEBOOKS / f"{name}.py").read_text("utf-8")


def test_parameters_of_a_plain_papermill(tmp_path):
    """README's line, with a parameter."""
    ipynb = tmp_path / "in.ipynb"
    nbformat.write(READ["01_prompts"], ipynb)
    line = ["-k", "python3", "-p", "images_per_cell", "2", "--prepare-only"]
    run = [sys.executable, "-m", "papermill", str(ipynb), str(tmp_path / "out.ipynb"), *line]
    subprocess.run(run, check=True, cwd=tmp_path)
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    (given,) = [c for c in cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert "images_per_cell = 2" in given.source


def test_unknown_arm():
    with pytest.raises(ValueError, match="no arm 'dfft'; there are: base"):
        notebook.values_for("03_finetune", "dfft", whole.load())


def test_a_stage_without_parameters_of_its_own_gets_base_alone():
    """A notebook that only shows something needs no group in params.yaml."""
    chosen = whole.load()
    assert notebook.values_for("07_words", None, chosen) == {"base": chosen.base.model_dump()}
