"""Data sets and the spike encodings that turn their values into input spikes."""

from esl_neuro.data.datasets import Dataset, Split, load_dataset
from esl_neuro.data.encodings import encode, encode_for_evaluation

__all__ = ["Dataset", "Split", "encode", "encode_for_evaluation", "load_dataset"]
