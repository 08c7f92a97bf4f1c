"""What ``dvc.yaml`` says of the stages, and ``dvc.lock`` of their last run.

Read as DVC does, as far as this project uses them: importing DVC takes seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import yaml

from dft_lib.repro.paths import show


class Stage(NamedTuple):
    """One stage as ``dvc.yaml`` and ``params.yaml`` make it."""

    cmd: str
    deps: list[str]
    outs: list[str]
    params: list[str]


def stages(pipeline: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Stage]:
    """Return the stages of a ``dvc.yaml``, in its order; a ``foreach`` gives one per item."""
    found = {}
    for name, body in pipeline["stages"].items():
        if "foreach" not in body:
            found[name] = _stage(body, chosen)
            continue
        for key, item in value_of(chosen, body["foreach"][2:-1]).items():
            found[f"{name}@{key}"] = _stage(body["do"], {**chosen, "key": key, "item": item})
    return found


def _stage(body: Mapping[str, Any], values: Mapping[str, Any]) -> Stage:
    def fill(text: str) -> str:
        return re.sub(r"\$\{([^}]+)\}", lambda found: str(value_of(values, found[1])), text)

    def paths(*groups: str) -> list[str]:
        entries = [entry for group in groups for entry in body.get(group) or []]
        return [fill(e if isinstance(e, str) else next(iter(e))) for e in entries]

    outs = paths("outs", "metrics", "plots")
    return Stage(fill(body["cmd"]), paths("deps"), outs, paths("params"))


def value_of(values: Any, dotted: str) -> Any:
    """Return the value that a dotted name has in nested mappings.

    Raises
    ------
    ValueError
        With one sentence, if there is none.
    """
    for part in dotted.split("."):
        if not isinstance(values, Mapping) or part not in values:
            raise ValueError(f"params.yaml has no {dotted}, which dvc.yaml names: add it")
        values = values[part]
    return values


class _LockLoader(yaml.CSafeLoader):
    """LibYAML with the words of YAML 1.2, as DVC writes: ``no`` is a string, 1e-4 a number."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _tag, _first, _pattern in (
    ("bool", "tTfF", "true|True|TRUE|false|False|FALSE"),
    ("null", ["~", "n", "N", ""], "~|null|Null|NULL|"),
    ("int", "-+0123456789", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"),
    (
        "float",
        "-+0123456789.",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    ),
):
    _LockLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def read_lock(path: Path) -> dict[str, Any]:
    """Return the stages of a ``dvc.lock``; of none, nothing.

    `read_yaml` takes most of a second for the thousands of lines that a lock has.

    Raises
    ------
    ValueError
        With one sentence, if the file is not YAML.
    """
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8") as stream:
            return (yaml.load(stream, _LockLoader) or {}).get("stages", {})
    except yaml.YAMLError as error:
        raise ValueError(f"{show(path)} is not valid YAML: `git checkout` it") from error
