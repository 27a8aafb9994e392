"""Which connections exist, and how they change while the network trains (evolutionary structure learning).

:class:`Rewirer` is the project's own learner, with every rule open; :data:`LEARNERS` has the others under their names.
"""

from esl_neuro.sparsity import admm, deep_r, grad_r, presets, stds  # noqa: F401 (each adds its learners)
from esl_neuro.sparsity.learner import LEARNERS, Learner, make_learner
from esl_neuro.sparsity.masked_adam import MaskedAdam, MaskedAdamW
from esl_neuro.sparsity.rewirer import Rewirer
from esl_neuro.sparsity.telemetry import Degrees, RewiringUpdate

__all__ = ["LEARNERS", "Degrees", "Learner", "MaskedAdam", "MaskedAdamW", "Rewirer", "RewiringUpdate", "make_learner"]
