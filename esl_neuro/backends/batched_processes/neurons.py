"""Lava's CUBA-LIF neurons for many samples at once, with every parameter per neuron."""

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
from numpy.typing import NDArray

from esl_neuro.backends.batched_kernels import BatchConstants, advance


class BatchedNeurons(AbstractProcess):
    """Lava's ``LIFReset`` for a batch; it is silent in the gap after each sample, and records its spikes and state.

    Parameters
    ----------
    constants : BatchConstants
        Parameters of the neurons.
    latency_steps : int
        Time steps before the first step of the first sample.
    steps, period : int
        Steps of a sample, and steps between the starts of two samples.
    spikes : uint8 array, shape (time steps, batch, neurons)
        Shared memory that receives the spikes, without the latency.
    u, v : int32 array, shape (time steps, batch, neurons), optional
        Shared memory that receives the state after each step.
    clock : int64 array, shape (1,)
        Shared memory; receives the number of time steps done.
    """

    def __init__(
        self,
        *,
        constants: BatchConstants,
        latency_steps: int,
        steps: int,
        period: int,
        spikes: NDArray[np.uint8],
        u: NDArray[np.int32] | None,
        v: NDArray[np.int32] | None,
        clock: NDArray[np.int64],
        name: str,
    ) -> None:
        super().__init__(
            constants=constants,
            latency_steps=latency_steps,
            steps=steps,
            period=period,
            spikes=spikes,
            u=u,
            v=v,
            clock=clock,
            name=name,
        )
        self.a_in = InPort(shape=spikes.shape[1:])
        self.s_out = OutPort(shape=spikes.shape[1:])


@implements(proc=BatchedNeurons, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyBatchedNeurons(PyLoihiProcessModel):
    """CPU model of :class:`BatchedNeurons`."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.constants = proc_params["constants"]
        self.latency_steps = proc_params["latency_steps"]
        self.steps, self.period = proc_params["steps"], proc_params["period"]
        self.record, self.clock = proc_params["spikes"], proc_params["clock"]
        self.states = [proc_params["u"], proc_params["v"]]
        shape = self.record.shape[1:]
        self.u, self.v, self.fired = (np.zeros(shape, np.int32) for _ in range(3))

    def run_spk(self) -> None:
        """Receive, advance, send, record (Lava counts steps from 1)."""
        a = self.a_in.recv()
        row = self.time_step - 1 - self.latency_steps
        step = row % self.period
        if 0 <= row < len(self.record) and step < self.steps:
            if step == 0:
                self.u[:] = self.v[:] = 0
            advance(self.u, self.v, self.fired, a, *self.constants)
            self.record[row] = self.fired
            for record, state in zip(self.states, (self.u, self.v), strict=True):
                if record is not None:
                    record[row] = state
        else:
            self.fired[:] = 0
        self.s_out.send(self.fired)
        self.clock[0] = self.time_step
