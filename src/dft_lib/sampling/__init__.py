"""From prompts, keyed noise and a model to shards of pictures, by one process or many workers."""
