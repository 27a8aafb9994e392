"""As many threads for compiled functions as torch has."""

from __future__ import annotations

import torch

from esl_neuro.compiled import use_threads


def use_torch_threads() -> None:
    """Set the number of threads of compiled functions to torch's.

    When numba starts its threads, it also sets OpenMP's number of threads, which is torch's: it is set back, because
    runs side by side with more threads than processors wait for each other most of the time.
    """
    count = torch.get_num_threads()
    use_threads(count)
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
