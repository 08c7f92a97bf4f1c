"""Which raters there are (``raters.yaml``), and the wall between steering and judging.

Imports no rater, so that params can be checked without loading PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from dft_lib.repro.paths import show
from dft_lib.repro.yaml_files import read_yaml
from dft_lib.study.attributes import QUESTIONS, UNSAFE, Target

Groups = tuple[str, ...]


class About(NamedTuple):
    """What a rater looks at, what it may answer, and its module below `dft_lib.raters`.

    Two raters of one kind look at the same evidence and are not independent.

    Attributes
    ----------
    kind : str
        What it looks at.
    groups : dict
        What it answers for -> the groups that it can answer with; () where they are not fixed.
    module : str
        Below `dft_lib.raters`; several raters may share one.
    version : str
        Changed with its answers.
    any : bool
        Answers for any attribute, with the groups of the study's target.
    """

    kind: str
    groups: Mapping[str, Groups]
    module: str
    version: str = "1"
    any: bool = False

    @property
    def attributes(self) -> tuple[str, ...]:
        """What it answers for."""
        return tuple(self.groups)

    def answers(self, attribute: str) -> bool:
        """Say whether it answers for an attribute."""
        return attribute in self.groups or (self.any and attribute not in QUESTIONS)


def _read(path: Path) -> dict[str, About]:
    found = {}
    for name, entry in read_yaml(path).items():
        try:
            groups = {attribute: tuple(named) for attribute, named in entry["answers"].items()}
            values = {key: value for key, value in entry.items() if key != "answers"}
            found[name] = About(groups=groups, **values)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{show(path)}: the entry {name} needs kind, answers and module, and may have any "
                f"and version ({error}): mend it"
            ) from error
    return found


RATERS = _read(Path(__file__).with_name("raters.yaml"))  # name -> about it


def require_known(members: Mapping[str, str]) -> None:
    """Refuse attributes nobody answers for, and raters that do not exist or do not answer.

    Raises
    ------
    ValueError
        With one sentence naming attribute, rater and what there is.
    """
    for attribute, name in members.items():
        if name not in RATERS:
            raise ValueError(f"no rater {name!r}; there are: {', '.join(sorted(RATERS))}")
        if not RATERS[name].answers(attribute):
            raise ValueError(
                f"rater {name!r} does not answer for {attribute!r}, only for "
                f"{', '.join(RATERS[name].attributes) or 'distances'}"
            )


def require_groups(members: Mapping[str, str], target: Target, field: str) -> None:
    """Refuse a target with groups that its rater can never answer with.

    Parameters
    ----------
    members : mapping
        Attribute -> rater name.
    target : mapping
        Attribute -> {group: share}.
    field : str
        Where the members stand in params.

    Raises
    ------
    ValueError
        With one sentence naming rater, group and what the rater answers.
    """
    for attribute, shares in target.items():
        if attribute not in members:
            raise ValueError(f"target.{attribute} has no rater: name one under {field}")
        known = RATERS[members[attribute]].groups.get(attribute, ())
        odd = [group for group in shares if known and group not in known]
        if odd:
            raise ValueError(
                f"target.{attribute} has the group {odd[0]!r}, but rater {members[attribute]!r} "
                f"under {field} answers only {', '.join(known)}: name another rater there, or use "
                "its groups"
            )


def require_apart(
    steering: Mapping[str, str], judging: Mapping[str, str], used: Iterable[str] = ()
) -> None:
    """Refuse a judge that steers, filters or trains, or that sees the same evidence as one.

    Parameters
    ----------
    steering, judging : mapping
        attribute -> rater name, as in params.
    used : iterable of str
        Names of raters that an artefact's manifest says took part in making it.

    Raises
    ------
    ValueError
        If any judge is among the steering or used raters, is a filter of unsafe pictures, or
        shares its kind with the steering rater of the same attribute.
    """
    require_known(steering)
    require_known(judging)
    if UNSAFE in judging:
        raise ValueError(
            "base.judge.unsafe: a filter screens and never judges; name it under base.steer"
        )
    both = sorted(set(judging.values()) & (set(steering.values()) | set(used)))
    if both:
        raise ValueError(
            f"rater {both[0]!r} steers or filters and may not judge: name another one under "
            "base.judge"
        )
    for attribute in sorted(set(steering) & set(judging)):
        one, other = (RATERS[members[attribute]].kind for members in (steering, judging))
        if one == other:
            raise ValueError(
                f"base.steer and base.judge look at {attribute} in the same way ({one}): choose "
                "raters of different kinds"
            )
