"""How one model is trained: the loop, its objectives, processes, and what a recipe is given."""
