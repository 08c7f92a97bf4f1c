"""Sets of pictures to train on: screened, weighted, audited, and read back as latents."""
