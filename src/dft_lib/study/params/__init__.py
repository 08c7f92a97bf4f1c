"""The groups of ``params.yaml``: what all stages share, a module per stage, and the whole file."""
