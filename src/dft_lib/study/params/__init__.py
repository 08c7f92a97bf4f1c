"""The groups of ``params.yaml`` that one stage has, a module each, and the whole file."""
