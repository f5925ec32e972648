"""Weights of other systems, read as data: nothing in a file of theirs is ever run."""

from gat_jax.diagnosis.weights.files import read_arrays
from gat_jax.diagnosis.weights.forms import Form, FormOptions
from gat_jax.diagnosis.weights.recognise import ReadModel, describe, read_layers, read_model

__all__ = [
    "Form",
    "FormOptions",
    "ReadModel",
    "describe",
    "read_arrays",
    "read_layers",
    "read_model",
]
