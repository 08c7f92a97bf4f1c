"""The study's verbs, one per notebook and file, so that a stage depends on its own verb only."""

from dft_lib.repro.paths import require_own_tree
from dft_lib.stages.evaluate import evaluate_arm
from dft_lib.stages.finetune import train_arm
from dft_lib.stages.prompts import make_prompts
from dft_lib.stages.real import collect_real
from dft_lib.stages.synthesis import synthesise

__all__ = ["collect_real", "evaluate_arm", "make_prompts", "synthesise", "train_arm"]

require_own_tree()  # whoever opens a notebook of another clone is told at its first import
