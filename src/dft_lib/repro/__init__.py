"""What makes a rerun give the same bytes: paths, atomic files, keyed noise, shards, workspaces."""
