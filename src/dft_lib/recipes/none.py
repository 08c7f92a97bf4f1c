"""No training: the base model as it is."""

from __future__ import annotations
