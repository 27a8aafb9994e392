"""A process that writes a Var of another process to memory shared with the parent."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray


class StateSink(AbstractProcess):
    """Records a Var after every time step. One sink reads one Var: two reference ports in a process make Lava hang.

    Parameters
    ----------
    record : int32 array, shape (time steps, neurons)
        Shared memory to write into.
    latency_steps : int
        Time steps to leave out at the start.
    """

    def __init__(self, *, record: NDArray[np.int32], latency_steps: int, name: str) -> None:
        super().__init__(record=record, latency_steps=latency_steps, name=name)
        self.state = RefPort(shape=record.shape[1:])


@implements(proc=StateSink, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyStateSink(PyLoihiProcessModel):
    """CPU model of :class:`StateSink`."""

    state: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.record = proc_params["record"]
        self.latency_steps = proc_params["latency_steps"]

    def post_guard(self) -> bool:
        """Request the phase after the spikes of each time step, in which Vars can be read."""
        return True

    def run_post_mgmt(self) -> None:
        """Read the Var, and write the row of this time step (Lava counts from 1)."""
        values = self.state.read()
        row = self.time_step - 1 - self.latency_steps
        if 0 <= row < len(self.record):
            self.record[row] = values
