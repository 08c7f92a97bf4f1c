"""The indefinite article of an English phrase: by sound, not by spelling.

The rule, in this order:

1. A number is read aloud: "an 8-year-old", "an 11th", "an 18-wheeler driver", "a 100-year-old".
2. What is spelled out letter by letter takes the article of its first letter's name: "an MRI
   technician", "an X-ray technician", "a UX designer". That is one letter alone, up to four
   capitals, capitals without a vowel, or a word without any vowel ("hr"). Acronyms that are read
   as words (`_READ_AS_WORDS`: "a NASA engineer") are not.
3. Else a vowel takes "an", but for vowels that sound as "you" or "w" (`_CONSONANT_SOUND`: "a
   university lecturer", "a one-armed man"), and a silent h (`_SILENT_H`: "an heir").

Names and loan words can break it ("a Ukrainian" is right, "an Euler" would be); speakers differ on
some ("a herbalist", as in British English).
"""

from __future__ import annotations

import re
import unicodedata

_LETTERS_WITH_AN = frozenset("AEFHILMNORSX")  # "an eff", "an aitch", "an ess"
_READ_AS_WORDS = frozenset(
    ("NASA", "NATO", "FIFA", "FEMA", "SWAT", "SEAL", "STEM", "LEGO", "LAN", "RAM", "ROM", "SIM")
)
_TITLES = frozenset(("mr", "mrs", "ms", "mx", "st", "sr", "hmm", "shh"))  # no vowel, yet words
_SPELLED = re.compile(r"[A-Za-z](?![A-Za-z'’])|[a-z]?[A-Z]{2,}")
_SILENT_H = re.compile(r"heir|honest|honou?r|hour|hors\b")
_CONSONANT_SOUND = re.compile(
    r"""
      eu | ewe                                  # European, ewe
    | once\b | ones?\b | oneself | oneness      # one-armed, but: onerous
    | ou[ai]                                    # Ouija
    | u[ix]\b                                   # ui designer, ux designer
    | u[bf][io] | u[gkv][aeiou] | uk[ru] | us[aeiu] | ut[aeio] | ur[aeiou] | uy
    | unanim | unary | unesco
    | uni (?! n | m(?!od) | d(?!ir) | ll | ss | r | g )   # uniform, but: uninsured, unidentified
    """,
    re.VERBOSE,
)


def article(phrase: str) -> str:
    """Return `phrase` with its indefinite article ("an artist", "a university lecturer").

    See the module for the rule.
    """
    return f"{'an' if _sounds_like_a_vowel(phrase) else 'a'} {phrase}"


def _sounds_like_a_vowel(phrase: str) -> bool:
    plain = unicodedata.normalize("NFKD", phrase)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    plain = re.sub(r"^[\W_]+", "", plain)  # quotes, brackets
    if number := re.match(r"\d+(?:,\d{3})*", plain):
        return _number(number[0])
    word = (re.match(r"[^\W\d_]+", plain) or [""])[0]
    if (spelled := _spelled(plain, word)) is not None:
        return spelled in _LETTERS_WITH_AN
    low = plain.lower()
    if re.match(r"y[^aeiouy\W]", low):  # Yvonne, ytterbium
        return True
    if low[:1] == "h":
        return _SILENT_H.match(low) is not None
    return low[:1] in tuple("aeiouæœø") and not _CONSONANT_SOUND.match(low)


def _number(digits: str) -> bool:
    """Say whether a number, read aloud, begins with eight, eleven or eighteen."""
    if re.fullmatch(r"1[18]\d\d", digits):  # a year: eleven hundred, eighteen-ninety
        return True
    digits = digits.replace(",", "")
    group = digits[: len(digits) % 3 or 3]  # what stands before "thousand", "million"
    return group.startswith("8") or group in ("11", "18")


def _spelled(phrase: str, word: str) -> str | None:
    """Return the first letter, as a capital, of what is spelled out; None where it is not."""
    if not word:
        return None
    found = _SPELLED.match(phrase)
    run = found[0] if found else ""
    voiced = re.search("[aeiouy]", word, re.IGNORECASE)
    if run and run == word and run in _READ_AS_WORDS:
        return None
    if run and (len(run) <= 4 or not voiced):
        return run[0].upper()
    ascii_only = word.isascii() and not voiced and word.lower() not in _TITLES
    return word[0].upper() if ascii_only and word.islower() else None
