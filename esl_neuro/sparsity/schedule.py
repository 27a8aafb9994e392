"""How large a share of the connections is replaced, over the course of training."""

from __future__ import annotations

import math


def cosine_fraction(iteration: int, alpha: float, end: int) -> float:
    """Share of connections to replace at an iteration (ESL-SNNs eq. 2).

    ``f(t) = alpha / 2 (1 + cos(pi t / T_end))`` before ``T_end``, 0 from then on.

    Parameters
    ----------
    iteration : int
        ``t``.
    alpha : float
        Share at ``t = 0``.
    end : int
        ``T_end``, the iteration from which the structure stays as it is.
    """
    if iteration >= end:
        return 0.0
    return alpha / 2 * (1 + math.cos(math.pi * iteration / end))
