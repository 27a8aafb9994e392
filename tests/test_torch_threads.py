"""Compiled functions use torch's number of threads, and leave it as it is."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import numba, torch
torch.set_num_threads(1)
from esl_neuro.snn.neurons import LIF
{call}
assert torch.get_num_threads() == 1, torch.get_num_threads()
assert numba.get_num_threads() == 1, numba.get_num_threads()
"""


def test_first_kernel_of_a_process_keeps_the_threads_of_torch():
    """numba's pool sets OpenMP's number of threads when it starts, which is torch's as well."""
    calls = (
        "LIF((4,))(torch.rand(2, 3, 4))",
        "from esl_neuro.snn.temporal import first_spike; first_spike(torch.rand(2, 3) + 1, torch.rand(4, 3))",
        "from esl_neuro.sparsity.masked_adam import MaskedAdam\n"
        "weight = torch.nn.Parameter(torch.rand(4, 4)); weight.grad = torch.rand(4, 4); MaskedAdam([weight]).step()",
    )
    for call in calls:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(call=call)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
