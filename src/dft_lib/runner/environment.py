"""Say whether the locks can be installed here: ``python -I src/dft_lib/runner/environment.py``.

`make` runs this by its path, with the environment's own Python, before anything is installed: it
imports nothing, and keeps to what Python 3.6 can read.
"""

import sys

OLDEST, NEWEST = (3, 11, 5), (3, 12)  # as in pyproject.toml
OLDEST_PIP = (21, 3)  # reads manylinux_2_28 wheels and installs this project from pyproject.toml


def complaint(python, pip, where):
    """Return what is wrong with an environment, in one sentence, or an empty text.

    Parameters
    ----------
    python : tuple of int
        Version of its Python.
    pip : str or None
        Version of its pip.
    where : str
        Its folder.
    """
    if not tuple(python[:3]) >= OLDEST or tuple(python[:2]) > NEWEST:
        return "{} has Python {}, and the locks need {} to {}: {}".format(
            where, _text(python[:3]), _text(OLDEST), _text(NEWEST),
            "deactivate it, or remove it if `make` made it, and say `make PYTHON=python3.11`",
        )  # fmt: skip
    if pip is None:
        return (
            f"{where} has no pip: with it active, say `python -m ensurepip` or `uv pip install "
            "pip` (`uv venv --seed` makes one with pip), or deactivate it"
        )
    numbers = tuple(int(n) for n in pip.split(".")[:2] if n.isdigit())
    if numbers < OLDEST_PIP:
        return (
            f"{where} has pip {pip}, which is too old for the wheels in requirements.lock: say "
            "`python -m pip install --upgrade pip`"
        )
    return ""


def _text(version):
    return ".".join(map(str, version))


def _pip():
    try:
        from importlib.metadata import PackageNotFoundError, version
    except ImportError:  # Python 3.7 and older, which is refused anyway
        return None
    try:
        return version("pip")
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    said = complaint(sys.version_info, _pip(), sys.prefix)
    sys.exit("make: " + said if said else 0)
