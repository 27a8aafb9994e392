"""Structure learning: the connections of a network, and their changes during training.

:class:`Rewirer` is the project's own learner with configurable rules; :data:`LEARNERS` contains all learners by name.
"""

from esl_neuro.sparsity import admm, deep_r, grad_r, presets, stds, synaptic_sampling  # noqa: F401 (each registers its learners)
from esl_neuro.sparsity.learner import LEARNERS, Learner, make_learner
from esl_neuro.sparsity.masked_adam import MaskedAdam, MaskedAdamW
from esl_neuro.sparsity.rewirer import Rewirer
from esl_neuro.sparsity.sparse_conv import SparseConv2d
from esl_neuro.sparsity.sparse_linear import FewOutputs, SparseLinear
from esl_neuro.sparsity.telemetry import Degrees, RewiringUpdate

__all__ = [
    "LEARNERS",
    "Degrees",
    "FewOutputs",
    "Learner",
    "MaskedAdam",
    "MaskedAdamW",
    "Rewirer",
    "RewiringUpdate",
    "SparseConv2d",
    "SparseLinear",
    "make_learner",
]
