"""Who a prompt asks for: a rule table that finds the person and what is said of the person.

No language model: one regular expression finds "[a|an] [gender word] noun", and lists of words say
which attributes a prompt states. Known limits, which are those of every noun list: only the first
person counts, plurals are left alone ("two pilots"), a noun is a person whatever it means there
("a student loan"), and a group that is said in words not listed here goes unseen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dft_lib.interventions.base import Setting, draw_group
from dft_lib.study.attributes import PERSON, Attribute, describe
from dft_lib.study.prompts import Request, article

# Nouns that name a gender and a person at once; they stand alone ("a girl") or before another
# noun ("a woman pilot").
GENDERED_NOUNS = (
    "woman", "man", "girl", "boy", "lady", "gentleman", "guy", "mother", "father", "sister",
    "brother", "daughter", "son", "wife", "husband", "grandmother", "grandfather",
)  # fmt: skip
GENDERED_WORDS = (
    "female", "male", "feminine", "masculine", "women", "men", "females", "males", "girls", "boys",
    "ladies", "gentlemen", "guys", "she", "her", "hers", "herself", "he", "him", "his", "himself",
    "non-binary", "nonbinary", "transgender",
)  # fmt: skip
TONES = (
    "light", "lighter", "dark", "darker", "medium", "pale", "fair", "white", "olive", "tan",
    "tanned", "brown", "black", "ebony",
)  # fmt: skip
# Said right before the person ("a Black woman", not "a black coat"), these settle the tone too:
# drawing another would contradict who was asked for.
ORIGINS = (
    "black", "white", "brown", "african", "african american", "african-american", "asian",
    "caucasian", "european", "hispanic", "indian", "latina", "latino", "arab",
)  # fmt: skip
AGES = (
    "young", "old", "elderly", "aged", "adult", "teenage", "teenager", "child", "kid", "baby",
    "toddler", "girl", "girls", "boy", "boys", "grandmother", "grandfather",
)  # fmt: skip
# Attribute -> words that state it, beside the lexicon's own.
WORDS = {"gender": GENDERED_NOUNS + GENDERED_WORDS, "skin_tone": TONES, "age": AGES}


@dataclass(frozen=True)
class Person:
    """The person of a prompt.

    Attributes
    ----------
    prompt : str
        The prompt, as asked.
    start, end : int
        Where the indefinite article, gender words right before the noun (each only if there is
        one) and the noun stand.
    has_article : bool
        Whether an indefinite article stands there.
    phrase : str
        Gender words and noun, as written.
    noun : str
        The noun, as written.
    stated : frozenset of str
        Attributes that the prompt states, anywhere.
    attributes : dict
        Name -> attribute: how groups are said.
    """

    prompt: str
    start: int
    end: int
    has_article: bool
    phrase: str
    noun: str
    stated: frozenset[str]
    attributes: Mapping[str, Attribute]

    def rewrite(self, words: Mapping[str, str]) -> str:
        """Return the prompt with the person described further; nothing else changes.

        Parameters
        ----------
        words : dict
            attribute -> group word; only attributes that are not `stated`.
        """
        if not words:
            return self.prompt
        noun = PERSON if self.phrase.lower() == PERSON else self.phrase
        text = describe(noun, words, self.attributes)
        if self.has_article:
            text = article(text)
        if self.prompt[self.start].isupper():
            text = text[0].upper() + text[1:]
        return self.prompt[: self.start] + text + self.prompt[self.end :]


class People:
    """Finds the person of a prompt.

    Parameters
    ----------
    setting : Setting
        Its nouns and group words.
    attributes : sequence of str
        What may be drawn for a prompt that leaves it open.

    Raises
    ------
    ValueError
        If an attribute is named twice, cannot be put into words, or has no target or no words.
    """

    def __init__(self, setting: Setting, attributes: Sequence[str] = ()) -> None:
        for attribute in attributes:
            _check(setting, attribute, list(attributes))
        self.setting, self.attributes = setting, tuple(attributes)
        own = {a: tuple(about.words.values()) for a, about in setting.attributes.items()}
        words = {a: _any(own.get(a, ()) + other) for a, other in WORDS.items()}
        gender = words["gender"]
        noun = _any(tuple(setting.nouns) + GENDERED_NOUNS)
        person = rf"(?P<phrase>(?:{gender}\s+)*(?P<noun>{noun}))"
        self._person = _pattern(rf"(?P<article>an?\s+)?{person}")
        # What the lexicon says itself states any attribute; of some there is more to know.
        stated = {
            a: _any([about.say(word) for word in own[a]])
            for a, about in setting.attributes.items()
        }
        stated |= {
            "gender": gender,
            "skin_tone": (
                rf"[\w-]+[\s-]skinned|(?:\w+-)*{words['skin_tone']}\s+(?:skin|complexion)"
                rf"|{_any(ORIGINS)}(?=\s+(?:{gender}\s+)*{noun}(?![\w-]))"
            ),
            "age": rf"{words['age']}|\d+[\s-]years?[\s-]old",
        }
        self._stated = {a: _pattern(expression) for a, expression in stated.items()}

    def find(self, prompt: str) -> Person | None:
        """Return the first person of a prompt (of nouns that start there the longest), if any."""
        match = self._person.search(prompt)
        if match is None:
            return None
        stated = frozenset(a for a, pattern in self._stated.items() if pattern.search(prompt))
        return Person(
            prompt, match.start(), match.end(), match["article"] is not None, match["phrase"],
            match["noun"], stated, self.setting.attributes,
        )  # fmt: skip

    def draw(self, request: Request) -> dict[str, str]:
        """Draw a group of every attribute that the prompt leaves open; {} without a person."""
        person = self.find(request.prompt)
        if person is None:
            return {}
        return {
            attribute: draw_group(self.setting, attribute, request)
            for attribute in self.attributes
            if attribute not in person.stated
        }


def _any(words: Sequence[str]) -> str:
    """Return a regular expression for any of the words, the longest first."""
    longest = sorted({w.lower() for w in words}, key=lambda w: (-len(w), w))
    return f"(?:{'|'.join(map(re.escape, longest))})"


def _pattern(expression: str) -> re.Pattern[str]:
    """Compile an expression for whole words: "guardrail", "man-made", "judge's" are others."""
    return re.compile(rf"(?<![\w-])(?:{expression})(?![\w-]|['’]\w)", re.IGNORECASE)


def _check(setting: Setting, attribute: str, attributes: list[str]) -> None:
    """Refuse an attribute that cannot be drawn."""
    if attributes.count(attribute) > 1:
        raise ValueError(f"draw.attributes names {attribute!r} twice: remove one")
    if attribute not in setting.target:
        raise ValueError(
            f"draw.attributes: {attribute!r} has no target; use {', '.join(setting.target)}, or "
            "add it to base.target"
        )
