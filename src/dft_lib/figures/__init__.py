"""Figures: plots of tables and summaries, and sheets of pictures; nothing is measured here.

Nothing is imported here: every notebook that draws one figure would then depend on all.
"""
