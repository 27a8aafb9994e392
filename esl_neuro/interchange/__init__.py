"""Networks as NIR graphs and back."""

from esl_neuro.interchange.files import read_nir, write_nir
from esl_neuro.interchange.from_nir import from_nir
from esl_neuro.interchange.to_nir import to_nir

__all__ = ["from_nir", "read_nir", "to_nir", "write_nir"]
