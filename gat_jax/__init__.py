"""A laboratory for attention symmetry in graph attention networks.

When are twins (nodes with the same neighbourhood) equal, how often, why, and does training
change it? Import the modules themselves: ``from gat_jax import graphs, layers, symmetry``.
"""
