"""Write what each stage's code is: ``python -m dft_lib.runner.code``, the stage ``code``.

::

    code/stages/<stage>.txt            the notebook, and all that it imports
        /recipes/<recipe>.txt          a module that is loaded by name, and all that it imports
        /interventions/<intervention>.txt
        /world/<step>.txt              a step of ``world/dvc.yaml``
        /check.txt                     what checks the study before it starts

Every line is a module and the digest of its syntax (`dft_lib.repro.digests`). ``dvc.yaml`` names
these files where it would otherwise have to list modules; a comment changes none of them. The
runner is in no stage's: it hands over parameters, and stages depend on those by themselves.

Raters are loaded by name too. Where a closure opens panels (`PANEL`), the raters that params name
belong to it, with their entries in ``raters.yaml``: judges and the space of distances in
``evaluate``, the steering raters elsewhere.

It loads neither PyTorch nor pandas nor pydantic, and takes half a second.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dft_lib.repro import digests
from dft_lib.repro.files import write_text
from dft_lib.repro.paths import NOTEBOOKS, ROOT, WORLD, enter
from dft_lib.repro.yaml_files import read_yaml
from dft_lib.study.wall import RATERS

PANEL = "dft_lib.raters.panel"
REGISTRY = "raters.yaml"
PLUGINS = ("recipes", "interventions")
JUDGING = ("evaluate",)  # stages whose panel judges


class Listing:
    """The lines of every file.

    Parameters
    ----------
    code : dft_lib.repro.digests.Code
        The library.
    chosen : dict
        Content of ``params.yaml``; of it ``base.steer``, ``base.judge`` and ``evaluate.features``
        are used.
    """

    def __init__(self, code: digests.Code, chosen: dict[str, Any]) -> None:
        self.code = code
        steer, judge = (_value(chosen, "base", panel) for panel in ("steer", "judge"))
        self.steer = _known(steer.values())
        self.judge = _known([*judge.values(), _value(chosen, "evaluate", "features")])

    def of(self, roots: Iterable[str], panel: Iterable[str]) -> list[str]:
        """Return the lines of a closure; if it opens panels, with those raters too."""
        roots, panel = list(roots), list(panel) if PANEL in self.code.closure(roots) else []
        entries = [f"{REGISTRY}:{n} {digests.shorten(repr(RATERS[n]).encode())}" for n in panel]
        modules = (f"dft_lib.raters.{RATERS[name].module}" for name in panel)
        return self.code.lines([*roots, *modules]) + entries

    def notebook(self, path: Path, panel: Iterable[str], *more: str) -> list[str]:
        """Return the lines of a notebook and what it imports."""
        digest, names = digests.notebook(path)
        imported = names & self.code.graph.modules
        name = path.relative_to(path.parents[1]).as_posix()
        return [f"{name} {digest}", *self.of([*sorted(imported), *more], panel)]

    def files(self) -> dict[str, list[str]]:
        """Return every file's lines by its path below ``code/``."""
        found: dict[str, list[str]] = {}
        for path in sorted(NOTEBOOKS.glob("[0-9]*.py")):
            stage = path.stem.partition("_")[2]
            panel = self.judge if stage in JUDGING else self.steer
            found[f"stages/{stage}.txt"] = self.notebook(path, panel)
        for kind in PLUGINS:
            for module in self.code.modules(f"dft_lib.{kind}"):
                name = module.rpartition(".")[2]
                found[f"{kind}/{name}.txt"] = self.of([module], self.steer)
        both = sorted({*self.steer, *self.judge})
        for module in self.code.modules("dft_lib.world.steps"):
            name, roots = module.rpartition(".")[2], ["dft_lib.world.build", module]
            found[f"world/{name}.txt"] = (
                self.notebook(WORLD / "world.py", both, *roots)
                if name == "report"
                else self.of(roots, both)
            )
        plugins = [m for kind in PLUGINS for m in self.code.modules(f"dft_lib.{kind}")]
        found["check.txt"] = self.of(["dft_lib.runner.checks", *plugins], both)
        return found


def _value(chosen: Any, group: str, name: str) -> Any:
    kind = str if name == "features" else dict
    values = chosen.get(group) if isinstance(chosen, dict) else None
    if not isinstance(values, dict) or not isinstance(values.get(name), kind):
        raise ValueError(f"params.yaml: {group}.{name} is missing or mistyped: mend it")
    return values[name]


def _known(raters: Iterable[str]) -> list[str]:
    names = sorted(set(raters))
    unknown = [name for name in names if name not in RATERS]
    if unknown:
        raise ValueError(f"no rater {unknown[0]!r}; there are: {', '.join(sorted(RATERS))}")
    return names


def main() -> None:
    """Write the files; a mistake in what they are made of ends in one sentence."""
    enter()
    try:
        files = Listing(digests.library(), read_yaml(ROOT / "params.yaml")).files()
        for name, lines in files.items():
            write_text(ROOT / "code" / name, "\n".join(lines) + "\n")
    except (ImportError, ValueError, OSError) as error:
        sys.exit(f"code: {error}")


if __name__ == "__main__":
    main()
