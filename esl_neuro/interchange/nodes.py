"""Write the current-based neuron as a NIR node."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

STEPS_WITHOUT_LEAK = 2.0**40
"""Membrane time constant, in steps, of current-based neurons without leak, for which NIR has no node.
One minus its inverse is one in single precision, and in double precision a potential loses less than 1e-9 in a
thousand steps."""


def cuba_lif_node(
    tau_syn: NDArray[np.float64], tau_mem: NDArray[np.float64], threshold: NDArray[Any], dt_s: float
) -> nir.CubaLIF:
    """Return ``u[t] = tau_syn u[t-1] + I[t]``, ``v[t] = tau_mem v[t-1] + u[t]`` as a node; decays per neuron."""
    leak_syn, leak = 1 - tau_syn, np.maximum(1 - tau_mem, 1 / STEPS_WITHOUT_LEAK)
    return nir.CubaLIF(
        tau_syn=dt_s / leak_syn,
        tau_mem=dt_s / leak,
        r=1 / leak,
        w_in=1 / leak_syn,
        v_leak=np.zeros(threshold.shape),
        v_threshold=threshold,
        v_reset=np.zeros(threshold.shape),
    )
