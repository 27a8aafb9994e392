"""Train sparse spiking networks, compile them to Loihi 2, prove the integers, count the energy.

The rooms, left to right (``docs/architecture.md`` has the picture): :mod:`~esl_neuro.data` and
:mod:`~esl_neuro.snn`, :mod:`~esl_neuro.sparsity`, :mod:`~esl_neuro.training`, :mod:`~esl_neuro.interchange`,
:mod:`~esl_neuro.compiler`, :mod:`~esl_neuro.backends`, :mod:`~esl_neuro.energy`, :mod:`~esl_neuro.report` and
:mod:`~esl_neuro.cli`. Nothing is imported here, so that ``esl-neuro --help`` never loads torch.
"""

__version__ = "0.1.0"
