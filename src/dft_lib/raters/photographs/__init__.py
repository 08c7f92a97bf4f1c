"""Raters of photographs, on weights from ordinary packages or from the model hub."""
