"""Raters of emoji drawings."""
