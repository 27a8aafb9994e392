"""Write the metrics of a run for TensorBoard."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from esl_neuro.training.epoch_metrics import EpochMetrics


class TensorBoard:
    """Writes event files; call :meth:`on_epoch` with the metrics of every epoch.

    Parameters
    ----------
    folder : Path
        Folder of the event files; use it, or the folder of all runs, for ``tensorboard --logdir``.

    Raises
    ------
    ImportError
        If tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # needs tensorboard, which is optional

        self._writer = SummaryWriter(str(folder))

    def on_epoch(self, metrics: EpochMetrics) -> None:
        """Write the metrics of an epoch, at its iteration."""
        for name, value in asdict(metrics).items():
            if isinstance(value, int | float):
                self._write(name, value, metrics.iteration)
        for layer, (low, mean, high) in metrics.thresholds.items():
            for name, value in (("min", low), ("mean", mean), ("max", high)):
                self._write(f"threshold/{layer}/{name}", value, metrics.iteration)
        for name, value in (metrics.energy or {}).items():
            if isinstance(value, int | float):
                self._write(f"energy/{name}", value, metrics.iteration)
        self._writer.flush()

    def _write(self, name: str, value: float, iteration: int) -> None:
        self._writer.add_scalar(name, value, iteration)
