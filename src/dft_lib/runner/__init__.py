"""What runs the study: notebooks as stages, profiles in clones, checks before and after."""
