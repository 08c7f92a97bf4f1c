"""Functions from pictures to perceived groups, and panels of them."""
