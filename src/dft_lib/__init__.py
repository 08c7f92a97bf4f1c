"""dft_lib: assess and mitigate perceived-attribute skew of text-to-image models."""
