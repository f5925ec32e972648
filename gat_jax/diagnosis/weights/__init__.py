"""Weights of other systems, read as data: nothing in a file of theirs is ever run."""
