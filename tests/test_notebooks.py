"""Notebooks stay thin, paired and runnable; their parameters are those of the study."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess

import jupytext
import nbformat
import pytest

from dft_lib.repro.paths import NOTEBOOKS, ROOT, SCRATCH
from dft_lib.runner import notebook
from dft_lib.study import params

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
    assert set(declared) == set(notebook.values_for(name, arm, params.load()))
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
    space = {"params": params}
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


def test_unknown_arm():
    with pytest.raises(ValueError, match="no arm 'dfft'; there are: base"):
        notebook.values_for("03_finetune", "dfft", params.load())
