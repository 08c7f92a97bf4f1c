"""The study's verbs, one per notebook and file; import a verb from its own file.

Nothing is imported here: every stage would then depend on the code of all.
"""
