"""Which raters there are, and the wall between steering and judging.

Imports no rater, so that params can be checked without loading PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dft_lib.raters.base import ATTRIBUTES, UNSAFE


class About(NamedTuple):
    """What a rater looks at, what it answers for, and its module below `dft_lib.raters`.

    Two raters of one kind look at the same evidence and are not independent.
    """

    kind: str
    attributes: tuple[str, ...]
    module: str
    version: str = "1"


# name -> about it
RATERS = {
    "convnet": About(
        "learned filters on pixels", ("person", "role", "gender"), "drawings.convnet"
    ),
    "hog": About(
        "oriented gradients of the grey picture", ("person", "role", "gender"), "drawings.hog"
    ),
    "histogram": About(
        "learned weights on a CIELAB histogram", ("skin_tone",), "drawings.histogram"
    ),
    "palette": About("colour match in CIELAB", ("skin_tone",), "drawings.palette"),
    # photographs; their weights come from packages (`make photos`)
    "centerface": About("face detector", ("person",), "photographs.centerface"),
    "age_gender": About("network on an aligned face", ("gender", "age"), "photographs.age_gender"),
    "monk": About("colour of facial skin in CIELAB", ("skin_tone",), "photographs.monk"),
    "monk_five": About("colour of facial skin in CIELAB", ("skin_tone",), "photographs.monk_five"),
    "ita": About("colour of facial skin in CIELAB", ("skin_tone",), "photographs.ita"),
    "colour_layout": About(
        "coarse colours of the whole picture", (), "photographs.colour_layout"
    ),  # distances only
    "open_nsfw": About("unsafe pictures", (UNSAFE,), "photographs.open_nsfw"),  # a filter
    # photographs; their models come from the hub
    "clip_zero_shot": About(
        "CLIP similarity", ("person", "gender", "skin_tone"), "photographs.clip_zero_shot"
    ),
    "blip2_vqa": About(
        "BLIP-2 answers", ("person", "gender", "skin_tone"), "photographs.blip2_vqa"
    ),
}


def require_known(members: Mapping[str, str]) -> None:
    """Refuse attributes nobody answers for, and raters that do not exist or do not answer.

    Raises
    ------
    ValueError
        With one sentence naming attribute, rater and what there is.
    """
    for attribute, name in members.items():
        if attribute not in ATTRIBUTES:
            raise ValueError(
                f"raters: unknown attribute {attribute!r}; use {', '.join(ATTRIBUTES)}"
            )
        if name not in RATERS:
            raise ValueError(f"no rater {name!r}; there are: {', '.join(sorted(RATERS))}")
        if attribute not in RATERS[name].attributes:
            raise ValueError(
                f"rater {name!r} does not answer for {attribute!r}, only for "
                f"{', '.join(RATERS[name].attributes) or 'distances'}"
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
