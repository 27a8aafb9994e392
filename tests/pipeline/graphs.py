"""A small graph of somebody else's."""

from __future__ import annotations

import nir
import numpy as np


def graph(steps=None, dt_s=1e-4):
    full = lambda value: np.full(4, float(value))  # noqa: E731
    nodes = {
        "input": nir.Input({"input": np.array([4])}),
        "fc": nir.Affine(np.eye(4) + 0.5, full(0)),
        "lif": nir.LIF(tau=full(2e-4), r=full(1), v_leak=full(0), v_threshold=full(0.7), v_reset=full(0)),
        "output": nir.Output({"output": np.array([4])}),
    }
    metadata = {name: value for name, value in (("dt_s", dt_s), ("steps", steps)) if value is not None}
    return nir.NIRGraph(nodes, [("input", "fc"), ("fc", "lif"), ("lif", "output")], metadata)
