"""Lava's ``LIFReset`` with a reset by subtraction, which Lava itself does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import AbstractPyLifModelFixed
from lava.proc.lif.process import LIFReset
from numpy.typing import NDArray


class SubtractingLIF(LIFReset):
    """``LIFReset`` whose spikes subtract a constant from ``v``: ``v = v - reset_by``.

    Parameters
    ----------
    reset_by : int32 array, of the shape of the neurons
        In units of ``v``: ``vth << 6`` subtracts the threshold.
    **arguments
        As for ``LIFReset``, including the periodic reset of ``u`` and ``v`` between samples.
    """

    def __init__(self, *, reset_by: NDArray[np.int32], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.reset_by = Var(shape=arguments["shape"], init=reset_by)


@implements(proc=SubtractingLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySubtractingLIF(AbstractPyLifModelFixed):
    """CPU model of :class:`SubtractingLIF`, with Lava's own currents and potentials up to the spike."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    vth: NDArray[np.int32] = LavaPyType(int, np.int32, precision=17)  # "int" lets arrays through, as in LIFReset
    reset_by: NDArray[np.int32] = LavaPyType(np.ndarray, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.reset_interval = proc_params["reset_interval"]
        self.reset_offset = proc_params["reset_offset"] % self.reset_interval

    def run_spk(self) -> None:
        """Receive, clear the state if a sample begins, advance, subtract where a neuron spikes, send."""
        a_in = self.a_in.recv()
        if self.time_step % self.reset_interval == self.reset_offset:
            self.u[:] = self.v[:] = 0
        self.scale_bias()
        self.subthr_dynamics(activation_in=a_in)
        spikes = self.v > np.left_shift(self.vth, self.vth_shift)
        self.v[spikes] -= self.reset_by[spikes]
        self.s_out.send(spikes)
