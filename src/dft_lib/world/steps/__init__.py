"""The steps of the world's making: a file per stage of ``world/dvc.yaml``, each with ``run``."""
