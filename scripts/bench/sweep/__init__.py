"""Sampled initialisations against what a torch user would write."""
