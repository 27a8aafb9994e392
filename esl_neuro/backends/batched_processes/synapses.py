"""A Lava connection that transmits the spikes of many samples at once."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

from esl_neuro.backends.synapses import Synapses


class BatchedSynapses(AbstractProcess):
    """Lava's ``Sparse`` or ``DelaySparse`` for a batch: the sums of a step leave ``1 + hold_steps`` steps later.

    Parameters
    ----------
    synapses : Synapses
        Sums the weights; also gives the number of lines.
    batch : int
        Number of samples.
    weight_exp : int
        The sum is shifted left by this many bits; a negative exponent shifts right, rounding down.
    hold_steps : int
        Delay in steps beyond the one step that every connection takes.
    """

    def __init__(self, *, synapses: Synapses, batch: int, weight_exp: int, hold_steps: int, name: str) -> None:
        super().__init__(synapses=synapses, batch=batch, weight_exp=weight_exp, hold_steps=hold_steps, name=name)
        targets, sources = synapses.shape
        self.s_in = InPort(shape=(batch, sources))
        self.a_out = OutPort(shape=(batch, targets))


@implements(proc=BatchedSynapses, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyBatchedSynapses(PyLoihiProcessModel):
    """CPU model of :class:`BatchedSynapses`."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.synapses = proc_params["synapses"]
        self.weight_exp = proc_params["weight_exp"]
        nothing = np.zeros((proc_params["batch"], self.synapses.shape[0]), np.int32)
        self.held = deque(nothing.copy() for _ in range(1 + proc_params["hold_steps"]))

    def run_spk(self) -> None:
        """Send before receiving, so that a loop of connections does not deadlock."""
        sums = self.held.popleft()
        self.a_out.send(sums)
        self.synapses.add_up(self.s_in.recv(), sums)
        if self.weight_exp > 0:
            sums <<= self.weight_exp
        elif self.weight_exp < 0:
            sums >>= -self.weight_exp
        self.held.append(sums)
