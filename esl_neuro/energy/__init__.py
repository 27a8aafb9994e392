"""Count what ran, exactly, and price the counts with published constants.

Counting (:mod:`~esl_neuro.energy.counts`) knows no hardware, pricing (:mod:`~esl_neuro.energy.prices`) knows no
network. Nothing in this room imports torch.
"""
