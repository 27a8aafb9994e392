"""A process that sends spikes from memory, with one byte per binary spike (Lava's own source uses four)."""

from __future__ import annotations

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from numpy.typing import NDArray


class SpikeSource(AbstractProcess):
    """Sends one row of ``frames`` in each time step, and silence after the last.

    Parameters
    ----------
    frames : uint8 or int32 array, shape (time steps, ...)
        0 or 1, or payloads.
    """

    def __init__(self, *, frames: NDArray[Any], name: str) -> None:
        super().__init__(frames=frames, name=name)
        self.s_out = OutPort(shape=frames.shape[1:])


@implements(proc=SpikeSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikeSource(PyLoihiProcessModel):
    """CPU model of :class:`SpikeSource`."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.frames = proc_params["frames"]

    def run_spk(self) -> None:
        """Send the row of this time step (Lava counts from 1)."""
        now = self.time_step - 1
        silence = np.zeros(self.frames.shape[1:], np.int32)
        self.s_out.send(self.frames[now].astype(np.int32) if now < len(self.frames) else silence)
