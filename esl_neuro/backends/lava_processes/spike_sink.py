"""A process that writes received spikes to memory shared with the parent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import AbstractPort, AbstractVirtualPort, InPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray


class SpikeSink(AbstractProcess):
    """Records the output of several ports, one row per time step, without the latency of each signal.

    Parameters
    ----------
    ports : sequence of output ports
        Ports to record; each sends a vector.
    records : sequence of uint8 arrays, each of shape (time steps, neurons)
        Shared memory to write into, one for each port.
    latency_steps : sequence of int
        Time steps to leave out at the start, for each port.
    clock : int64 array, shape (1,)
        Shared memory; receives the number of time steps done.
    """

    def __init__(
        self,
        *,
        ports: Sequence[AbstractPort],
        records: Sequence[NDArray[np.uint8]],
        latency_steps: Sequence[int],
        clock: NDArray[np.int64],
        name: str,
    ) -> None:
        super().__init__(records=records, latency_steps=latency_steps, clock=clock, name=name)
        sizes = [record.shape[1] for record in records]
        self.a_in = InPort(shape=(sum(sizes),))
        for index, port in enumerate(ports):
            _Placed(port, sum(sizes[:index]), sum(sizes)).connect(self.a_in)


class _Placed(AbstractVirtualPort):
    """Places the output of a port in a longer vector of zeros; the sum of such vectors is their concatenation.

    Lava's ``ConcatPort`` does the same but does not run on a CPU.
    """

    def __init__(self, port: AbstractPort, start: int, size: int) -> None:
        super().__init__((size,))
        self.start = start
        port._connect_forward([self], AbstractPort, [None], assert_same_shape=False)

    def get_transform_func_fwd(self) -> Callable[[NDArray[Any]], NDArray[Any]]:
        return partial(_placed, start=self.start, size=self.shape[0])

    def get_transform_func_bwd(self) -> Callable[[NDArray[Any]], NDArray[Any]]:
        raise NotImplementedError


def _placed(values: NDArray[Any], start: int, size: int) -> NDArray[Any]:
    placed = np.zeros(size, values.dtype)
    placed[start : start + len(values)] = values
    return placed


@implements(proc=SpikeSink, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikeSink(PyLoihiProcessModel):
    """CPU model of :class:`SpikeSink`."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.records = proc_params["records"]
        self.latency_steps = proc_params["latency_steps"]
        self.clock = proc_params["clock"]

    def run_spk(self) -> None:
        """Receive, and write the rows of this time step (Lava counts from 1)."""
        spikes = self.a_in.recv()
        start = 0
        for record, latency in zip(self.records, self.latency_steps, strict=True):
            row, stop = self.time_step - 1 - latency, start + record.shape[1]
            if 0 <= row < len(record):
                record[row] = spikes[start:stop]
            start = stop
        self.clock[0] = self.time_step
