"""Data sets, encodings that convert them to input over time, and noise for robustness tests."""

from esl_neuro.data import event_datasets, images, spike_lags  # noqa: F401 (they register their data sets)
from esl_neuro.data.datasets import Dataset, Split, load_dataset
from esl_neuro.data.encodings import encode, encode_for_evaluation
from esl_neuro.data.frames import FrameSettings
from esl_neuro.data.prepare import prepare

__all__ = ["Dataset", "FrameSettings", "Split", "encode", "encode_for_evaluation", "load_dataset", "prepare"]
