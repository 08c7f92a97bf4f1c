"""Run a percent notebook as a stage: ``python -m dft_lib.runner.notebook 03_finetune --arm dft``.

Where DVC runs a stage of one arm, it says which in the environment (``DVC_STAGE``). The name
stands in no command line, so nothing in params reaches a shell.

The equivalent papermill call is ``papermill -p base ... notebook.ipynb runs/notebook.ipynb``;
this runner exists because papermill does not read ``.py`` notebooks, loses the types of values on
its command line, takes an unknown parameter for a new one, and leaves time stamps in the executed
copy, so that it never hashes equal. Nothing else in the project knows papermill.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, TextIO

import jupytext
import nbformat
import papermill
import psutil
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from dft_lib.repro import workspace
from dft_lib.repro.files import write_text
from dft_lib.repro.paths import NOTEBOOKS, ROOT, enter, show
from dft_lib.study.arms import ArmSampling, ArmShown, ArmTraining, part
from dft_lib.study.params import whole
from dft_lib.study.schema import Group

# group -> the part of one arm that its notebook needs; groups whose notebooks need all arms
OF_ONE_ARM: dict[str, type[Group]] = {"finetune": ArmTraining, "evaluate": ArmSampling}
OF_ALL_ARMS = ("measure", "figures")

SOCKET = 103  # longest path of a Unix socket, in bytes: macOS; Linux takes 107


def declared_parameters(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the names assigned in the cell tagged ``parameters``.

    Raises
    ------
    ValueError
        If there is not exactly one such cell.
    """
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"expected one cell tagged parameters, found {len(cells)}")
    names = []
    for node in ast.parse(cells[0].source).body:
        if isinstance(node, ast.Assign):
            names += [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return names


def values_for(name: str, arm: str | None, chosen: whole.Params) -> dict[str, Any]:
    """Return the values a notebook gets: ``base``, its own group, and its arm or what all show.

    A stage that only shows something has no group: `base` is all that its notebook gets.

    Raises
    ------
    ValueError
        If the notebook is about one arm, and there is no such arm.
    """
    group = name.partition("_")[2]
    values = {"base": chosen.base.model_dump()}
    if group in type(chosen).model_fields:
        values |= getattr(chosen, group).model_dump()
    if group in OF_ALL_ARMS:
        values["arms"] = {k: part(one, ArmShown) for k, one in chosen.arms.items()}
    if group in OF_ONE_ARM:
        if arm not in chosen.arms:
            raise ValueError(
                f"params.yaml has no arm {arm!r}; there are: {', '.join(chosen.arms)}"
            )
        values |= {"arm": arm} | part(chosen.arms[arm], OF_ONE_ARM[group])
    return values


def arm_of(stage: str) -> str | None:
    """Return the arm of a DVC stage ``finetune@dft``, None of a stage that has none."""
    return stage.partition("@")[2] or None


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove what differs between two runs: time stamps, ids, versions, and stderr."""
    notebook.metadata = nbformat.from_dict({"language_info": {"name": "python"}})
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            kept = [o for o in cell.outputs if o.get("name") != "stderr"]
            cell.outputs = kept
    return notebook


class Terminal:
    """A stream that drops warnings no reader can act on, and passes progress bars through."""

    NOISE = ("Kernel is running over TCP", "IProgress not found", "import tqdm as notebook_tqdm")

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write `text` unless it is noise."""
        if not any(noise in text for noise in self.NOISE):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()


def environment(folder: str) -> dict[str, str]:
    """Return what the kernel's environment needs so that nothing of the reader's changes a copy.

    Parameters
    ----------
    folder : str
        A temporary folder of this run.
    """
    mpl = importlib.util.find_spec("matplotlib")
    assert mpl is not None and mpl.origin is not None
    fixed = {
        workspace.RUNNER_VARIABLE: workspace.identity(),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(Path(mpl.origin).parent / "mpl-data" / "matplotlibrc"),
        "PYTHONOPTIMIZE": "",  # pandas and seaborn need their docstrings
        "IPYTHONDIR": f"{folder}/ipython",  # no start-up files, no figure formats of one's own
    }
    if os.pathsep not in str(ROOT):  # a relative PYTHONPATH means another folder in the kernel
        others = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
        fixed["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *others])
    usual = {
        "SOURCE_DATE_EPOCH": "0",  # stable PDF time stamps
        "TRANSFORMERS_VERBOSITY": "error",
        # glibc: keep freed memory instead of returning it page by page (10-20 % of training time)
        "MALLOC_MMAP_THRESHOLD_": "1000000000",
        "MALLOC_TRIM_THRESHOLD_": "1000000000",
        "MALLOC_TOP_PAD_": "268435456",
    }
    return fixed | {k: v for k, v in usual.items() if k not in os.environ}


def short_folder() -> str:
    """Return where temporary files go: TMPDIR, or a shorter folder if sockets do not fit there.

    Raises
    ------
    ValueError
        If there is none.
    """
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if len(os.fsencode(f"{folder}/dft-12345678/kernel-1")) <= SOCKET and os.access(
            folder, os.W_OK | os.X_OK
        ):
            return folder
    raise ValueError(
        f"TMPDIR is {tempfile.gettempdir()}, too long for the sockets of a notebook's kernel "
        f"({SOCKET} bytes with their names), and /tmp is not writable: set TMPDIR to a shorter "
        "folder"
    )


def run(
    path: Path, values: dict[str, Any], out: Path, *, stderr: Any = None
) -> nbformat.NotebookNode:
    """Execute a percent notebook with `values` and write its normalised copy to `out`.

    Parameters
    ----------
    path : pathlib.Path
        The ``.py`` notebook.
    values : dict
        Typed values; their names must be exactly those of the parameters cell, except that a
        cell without parameters takes none.
    out : pathlib.Path
        Where the executed copy goes; on failure it holds the notebook up to the error.
    stderr : file, optional
        Where the kernel's stderr (progress bars, warnings) is shown while it runs.

    Raises
    ------
    ValueError
        If the names do not match.
    papermill.exceptions.PapermillExecutionError
        If a cell fails.
    """
    notebook = jupytext.read(path)
    names = set(declared_parameters(notebook))
    if names != set(values):
        odd = sorted(names ^ set(values))[0]
        where = "the parameters cell of " + show(path) if odd in names else "params.yaml"
        raise ValueError(f"parameter {odd!r} stands only in {where}: add or remove it in both")
    # No kernelspec in the files: whoever runs this uses the kernel of this very environment.
    spec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook.metadata["kernelspec"] = spec
    with tempfile.TemporaryDirectory(prefix="dft-", dir=short_folder()) as folder:
        source, executed = Path(folder) / "in.ipynb", Path(folder) / "out.ipynb"
        before = dict(os.environ)
        os.environ |= environment(folder)
        nbformat.write(notebook, source)
        try:
            papermill.execute_notebook(
                # papermill fills in {names} in paths
                *(str(p).replace("{", "{{").replace("}", "}}") for p in (source, executed)),
                parameters=values, kernel_name="python3", cwd=ROOT,
                progress_bar=False, stderr_file=stderr,
                # Unix sockets: no port of this machine is opened
                config=Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}}),
            )  # fmt: skip
        finally:
            os.environ.clear()
            os.environ |= before
            if executed.exists():
                result = normalise(nbformat.read(executed, as_version=4))
                write_text(out, nbformat.writes(result) + "\n")
    return result


def main() -> None:
    """Run one notebook with the values of ``params.yaml``."""
    enter()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="file name without suffix, e.g. 03_finetune")
    parser.add_argument(
        "--arm", default=arm_of(os.environ.get("DVC_STAGE", "")),
        help="which arm of params.yaml (03 and 04); in a DVC stage that stage's",
    )  # fmt: skip
    arguments = parser.parse_args()
    try:
        values = values_for(arguments.name, arguments.arm, whole.load())
        suffix = f"-{arguments.arm}" if arguments.arm else ""
        out = ROOT / "runs" / f"{arguments.name}{suffix}.ipynb"
        run(NOTEBOOKS / f"{arguments.name}.py", values, out, stderr=Terminal(sys.stderr))
    except PapermillExecutionError as error:
        sys.exit(f"{arguments.name}: {error.ename}: {error.evalue}\n(see {show(out)})")
    except DeadKernelError:
        disk, memory = shutil.disk_usage(ROOT).free, psutil.virtual_memory().available
        sys.exit(
            f"{arguments.name}: the kernel was ended from outside, as where memory or disk "
            f"run out (now free: {memory / 1e9:.1f} GB of memory, {disk / 1e9:.1f} GB of disk): "
            "make room or lower base.batch_size, then run again (finished work is kept)"
        )
    except (ValueError, OSError) as error:
        sys.exit(f"{arguments.name}: {error}")


if __name__ == "__main__":
    main()
