"""Which connections exist, and how they change while the network trains (evolutionary structure learning)."""

from esl_neuro.sparsity.rewirer import Rewirer, RewiringUpdate

__all__ = ["Rewirer", "RewiringUpdate"]
