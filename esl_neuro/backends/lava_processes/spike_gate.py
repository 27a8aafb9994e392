"""A process that passes spikes only during a sample, immediately or some steps later."""

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


class SpikeGate(AbstractProcess):
    """Passes the spikes during each sample, and silence between samples and before the first.

    Parameters
    ----------
    size : int
        Number of lines.
    latency_steps : int
        Time steps before the first step of the first sample.
    steps, period : int
        Steps of a sample, and steps between the starts of two samples.
    hold_steps : int
        Delay of the spikes in steps; 0 sends them in the same step.
    """

    def __init__(self, *, size: int, latency_steps: int, steps: int, period: int, hold_steps: int, name: str) -> None:
        super().__init__(
            size=size, latency_steps=latency_steps, steps=steps, period=period, hold_steps=hold_steps, name=name
        )
        self.s_in = InPort(shape=(size,))
        self.s_out = OutPort(shape=(size,))


@implements(proc=SpikeGate, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikeGate(PyLoihiProcessModel):
    """CPU model of :class:`SpikeGate`."""

    s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.latency_steps = proc_params["latency_steps"]
        self.steps, self.period = proc_params["steps"], proc_params["period"]
        self.silence = np.zeros(proc_params["size"], np.int32)
        self.held = deque([self.silence] * proc_params["hold_steps"])

    def run_spk(self) -> None:
        """Receive, delay, send (Lava counts steps from 1)."""
        step = self.time_step - 1 - self.latency_steps
        spikes = self.s_in.recv()
        self.held.append(spikes if step >= 0 and step % self.period < self.steps else self.silence)
        self.s_out.send(self.held.popleft())
