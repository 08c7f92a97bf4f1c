"""What is asked: attributes, word lists, prompts, parameters, and who may judge."""
