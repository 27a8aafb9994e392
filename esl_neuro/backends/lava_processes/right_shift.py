"""A process that shifts sums to the right, which Lava's ``Conv`` cannot do."""

from __future__ import annotations

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


class RightShift(AbstractProcess):
    """Sends ``a >> bits`` in the step in which ``a`` arrives.

    Parameters
    ----------
    size : int
        Number of sums.
    bits : int
        Number of bits to shift, rounding down.
    """

    def __init__(self, *, size: int, bits: int, name: str) -> None:
        super().__init__(size=size, bits=bits, name=name)
        self.a_in = InPort(shape=(size,))
        self.a_out = OutPort(shape=(size,))


@implements(proc=RightShift, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyRightShift(PyLoihiProcessModel):
    """CPU model of :class:`RightShift`."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.bits = proc_params["bits"]

    def run_spk(self) -> None:
        """Receive, shift, send."""
        self.a_out.send(self.a_in.recv() >> self.bits)
