"""Sums on padded tables, as loops that XLA compiles."""
