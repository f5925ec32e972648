"""Sums on rows without padding, as Pallas kernels for NVIDIA GPUs."""
