"""From ratings to results: tables, gaps, side effects, comparisons. Loads no PyTorch."""
