"""Digests of code: what a result was made with, found from the imports and not listed by hand.

The *closure* of some modules is what they import, what that imports, and so on, within the
package; the ``__init__`` of every package on the way runs too, so it belongs. What a module is, is
the digest of its syntax tree without docstrings: comments, docstrings and layout leave it alone,
everything that Python could act on (annotations too: they decide what is checked) does not.

Modules that are loaded by name (recipes, interventions, raters) are in no closure but their own;
whoever uses one names it as a further root, and its entry where there is a registry (`BY_ENTRY`).
`dft_lib.runner.code` does that for the stages.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grimp

PACKAGE = "dft_lib"
WIDTH = 32  # hexadecimal digits of a digest that are kept
BY_ENTRY = ("raters.yaml",)  # files of a package whose users name the entries that they use
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Code:
    """A package: its modules, who imports whom, and a digest of each (every file read once).

    Parameters
    ----------
    package : str
        Name of an importable package. It is not imported, only read.
    """

    def __init__(self, package: str = PACKAGE) -> None:
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"no package {package!r} can be imported", name=package)
        self.package = package
        self.folder = Path(spec.submodule_search_locations[0])
        # cache_dir: nothing is written beside the code; what only type checkers see never runs
        self.graph = grimp.build_graph(package, cache_dir=None, exclude_type_checking_imports=True)
        self._digests: dict[Path, str] = {}

    def file(self, module: str) -> Path:
        """Return a module's file.

        Raises
        ------
        ModuleNotFoundError
            If the package has no such module.
        """
        if module not in self.graph.modules:
            raise ModuleNotFoundError(f"{self.package} has no module {module}", name=module)
        path = self.folder.joinpath(*module.split(".")[1:])
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    def modules(self, package: str) -> list[str]:
        """List the modules directly in a package, in order: the plug-ins of that name."""
        return sorted(self.graph.find_children(package))

    def closure(self, roots: Iterable[str]) -> set[str]:
        """Return the modules that `roots` need, themselves and their packages included."""
        todo, found = list(roots), set[str]()
        while todo:
            module = todo.pop()
            if module in found:
                continue
            self.file(module)  # or stop here: a root that is not there
            found.add(module)
            todo += self.graph.find_modules_directly_imported_by(module)
            if "." in module:
                todo.append(module.rpartition(".")[0])
        return found

    def lines(self, roots: Iterable[str]) -> list[str]:
        """Return a line per module of the closure: its name and digest, in alphabetical order.

        Files of other kinds in a package (a table, a word list) stand there too, by their bytes,
        but for those of `BY_ENTRY`.
        """
        found = {}
        for module in self.closure(roots):
            path = self.file(module)
            found[module] = self._digest(path, syntax)
            if path.name == "__init__.py":
                for data in _data(path.parent):
                    name = data.relative_to(self.folder.parent).as_posix()
                    found[name] = self._digest(data, _bytes)
        return [f"{name} {digest}" for name, digest in sorted(found.items())]

    def digest(self, *roots: str) -> str:
        """Return one digest of a closure; without roots, of the whole package."""
        parts = self.lines(roots or self.graph.modules)
        if not roots:
            parts += [_bytes(path) for name in BY_ENTRY for path in self.folder.rglob(name)]
        text = "\n".join(parts)
        return hashlib.sha256(text.encode()).hexdigest()[:WIDTH]

    def _digest(self, path: Path, of: Callable[[Path], str]) -> str:
        if path not in self._digests:
            self._digests[path] = of(path)
        return self._digests[path]


@cache
def library() -> Code:
    """Return this library's code as this process found it."""
    return Code()


def syntax(path: Path) -> str:
    """Return the digest of a module's syntax tree without docstrings.

    Raises
    ------
    ValueError
        With one sentence, if the file is not Python.
    """
    parts: list[str] = []
    _write(parse(path.read_text(encoding="utf-8"), path), parts.append)
    return shorten("\0".join(parts).encode())


def notebook(path: Path) -> tuple[str, set[str]]:
    """Return the digest of a percent notebook's code cells, and the names that they import.

    A cell counts by its header (the tag ``parameters`` decides where values go in), its syntax
    tree, and its magics, which the format keeps as comments; text cells do not count.

    Returns
    -------
    str, set of str
        Every ``a.b`` of ``import a.b``; ``a`` and ``a.b`` of ``from a import b``.
    """
    cells = ("\n" + path.read_text(encoding="utf-8")).split("\n# %%")[1:]
    parts: list[str] = []
    names: set[str] = set()
    for cell in cells:
        header, _, text = cell.partition("\n")
        if "[markdown]" in header or "[raw]" in header:
            continue
        parts.append(header.strip())
        parts += [line for line in text.split("\n") if line.startswith(("# %", "# !"))]
        tree = parse(text, path)
        for statement in tree.body:
            _write(statement, parts.append)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return shorten("\0".join(parts).encode()), names


def parse(text: str, path: Path) -> ast.Module:
    """Parse Python; a mistake in it ends in one sentence."""
    try:
        return ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}: mend that line") from None


def shorten(content: bytes) -> str:
    """Return the digest of some bytes, `WIDTH` hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:WIDTH]


def _bytes(path: Path) -> str:
    return shorten(path.read_bytes())


def _data(package: Path) -> list[Path]:
    """List the files of a package that are no Python, those of packages inside it left out."""
    found = []
    for path in package.iterdir():
        if path.is_dir():
            own = path.name != "__pycache__" and not (path / "__init__.py").exists()
            found += _data(path) if own else []
        elif path.suffix not in (".py", ".pyc") and path.name not in BY_ENTRY:
            found.append(path)
    return found


def _write(node: ast.AST, add: Callable[[str], object]) -> None:
    """Write a syntax tree without positions and docstrings.

    Empty fields are left out: a later Python gives nodes fields that an earlier one lacks.
    """
    add(type(node).__name__)
    for field in node._fields:
        value: Any = getattr(node, field, None)
        if field == "body" and isinstance(node, _DOCUMENTED):
            value = _without_docstring(value)
        if value is None or value == []:
            continue
        add(field)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.AST):
                _write(part, add)
            else:
                add(repr(part))
        add(")")
    add(")")


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return body[1:] if isinstance(first.value.value, str) else body
    return body
