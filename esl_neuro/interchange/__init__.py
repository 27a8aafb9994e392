"""Convert torch networks to NIR graphs and back, and compare with other NIR readers."""

from esl_neuro.interchange.from_nir import from_nir
from esl_neuro.interchange.to_nir import to_nir
from esl_neuro.nirgraph.files import read_nir, write_nir

__all__ = ["from_nir", "read_nir", "to_nir", "write_nir"]
