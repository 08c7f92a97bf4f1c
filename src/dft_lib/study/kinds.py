"""The kinds of role that a noun may name: one list, used by lexicon, world and tables."""

from __future__ import annotations

KINDS = ("profession", "fantasy", "activity", "dress", "service")
