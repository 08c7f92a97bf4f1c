"""A diffusion pipeline and what is put into it: loading, conditioning, adapters, memory."""
