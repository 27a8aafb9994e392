"""A process that writes the spikes it receives into memory that the parent shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray


class SpikeSink(AbstractProcess):
    """Records what arrives, one row per time step, after the steps that the signal needs to get here.

    Parameters
    ----------
    record : uint8 array, shape (time steps, neurons)
        Shared memory to write into.
    clock : int64 array, shape (1,)
        Shared memory; receives the number of time steps done.
    latency_steps : int
        Time steps to leave out at the start.
    """

    def __init__(self, *, record: NDArray[np.uint8], clock: NDArray[np.int64], latency_steps: int, name: str) -> None:
        super().__init__(record=record, clock=clock, latency_steps=latency_steps, name=name)
        self.a_in = InPort(shape=record.shape[1:])


@implements(proc=SpikeSink, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikeSink(PyLoihiProcessModel):
    """CPU model of :class:`SpikeSink`."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.record = proc_params["record"]
        self.clock = proc_params["clock"]
        self.latency_steps = proc_params["latency_steps"]

    def run_spk(self) -> None:
        """Receive, and write the row of this time step (Lava counts from 1)."""
        spikes = self.a_in.recv()
        row = self.time_step - 1 - self.latency_steps
        if 0 <= row < len(self.record):
            self.record[row] = spikes
        self.clock[0] = self.time_step
