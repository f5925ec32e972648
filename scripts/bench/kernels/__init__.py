"""What the kernels of a step take on a GPU, one by one."""
