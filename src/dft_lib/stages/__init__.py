"""The study's verbs, one per notebook and file; import a verb from its own file.

No verb is imported here: every stage would then depend on the code of all.
"""

from dft_lib.repro.paths import require_own_tree

require_own_tree()  # whoever opens a notebook of another clone is told at its first import
