"""The edge list and jraph's segment sums: the reference."""
