"""Networks as NIR graphs."""

from esl_neuro.interchange.to_nir import to_nir

__all__ = ["to_nir"]
