"""Graphs, features and labels in users' files."""
