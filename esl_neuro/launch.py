"""Which of several processes this one is, if torchrun started it. No torch here."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """One process of those that torchrun started; alone without torchrun.

    Attributes
    ----------
    rank, processes : int
        Number of this process, from 0, and how many there are on all machines.
    local_rank, local_processes : int
        The same on this machine.
    restarts : int
        How often torchrun has started all processes again.
    name : str or None
        Name of the launch, the same after a restart; None without torchrun.
    """

    rank: int = 0
    processes: int = 1
    local_rank: int = 0
    local_processes: int = 1
    restarts: int = 0
    name: str | None = None

    @property
    def first(self) -> bool:
        """Whether this process writes and prints for all."""
        return self.rank == 0


def launch() -> Launch:
    """Return what torchrun tells this process in its environment."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None:
        return Launch()
    told = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
    rank, processes, local_rank, local_processes, restarts = (int(os.environ[each]) for each in told)
    # Older versions call every launch "none" that was not given a name; its torchrun is the parent of this process.
    own = name if name != "none" else f"{socket.gethostname()} {os.getppid()}"
    return Launch(rank, processes, local_rank, local_processes, restarts, own)
