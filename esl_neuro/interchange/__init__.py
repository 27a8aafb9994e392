"""Networks as NIR graphs and back."""

from esl_neuro.interchange.files import read_nir, write_nir
from esl_neuro.interchange.to_nir import to_nir

__all__ = ["read_nir", "to_nir", "write_nir"]
