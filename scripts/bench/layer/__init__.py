"""One layer of graph attention, forward and backward, against PyG and jraph."""
