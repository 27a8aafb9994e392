"""Measure the power of an NVIDIA GPU during a run with NVML (optional package ``nvidia-ml-py``)."""

from __future__ import annotations

import importlib
import threading
import time
from types import TracebackType
from typing import Any

import numpy as np

from esl_neuro.energy.measurement import Floats
from esl_neuro.errors import MissingDependency

INTERVAL_S = 0.02


def load_nvml() -> Any:
    """Import and initialise NVML.

    Raises
    ------
    MissingDependency
        If the package, the driver or a GPU is missing.
    """
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError as error:
        raise MissingDependency(
            "measuring a GPU needs 'nvidia-ml-py', which is not installed; install it: pip install 'esl-neuro[gpu]'"
        ) from error
    try:
        nvml.nvmlInit()
        if not nvml.nvmlDeviceGetCount():
            raise MissingDependency("NVML finds no GPU on this machine")
    except nvml.NVMLError as error:
        raise MissingDependency(f"NVML cannot be used here: {error}; a GPU and its driver are needed") from error
    return nvml


class GpuMeter:
    """Samples the power of one GPU in a thread during the ``with`` block.

    Parameters
    ----------
    index : int
        Number of the GPU.
    nvml : module, optional
        An initialised NVML. Default: loaded here.

    Attributes
    ----------
    name : str
        Product name of the GPU.
    """

    def __init__(self, index: int = 0, nvml: Any = None) -> None:
        self._nvml = load_nvml() if nvml is None else nvml
        self._handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        name = self._nvml.nvmlDeviceGetName(self._handle)
        self.name = name.decode() if isinstance(name, bytes) else str(name)
        self._rows: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> GpuMeter:
        self._read()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._read()

    def readings(self) -> tuple[Floats, Floats]:
        """Return times in s and powers in W."""
        table = np.array(self._rows, dtype=np.float64)
        return table[:, 0], table[:, 1]

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self._read()

    def _read(self) -> None:
        milliwatts = self._nvml.nvmlDeviceGetPowerUsage(self._handle)
        self._rows.append((time.perf_counter(), milliwatts / 1e3))
