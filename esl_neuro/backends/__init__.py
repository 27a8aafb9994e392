"""Run an integer program in our integer simulator or in Lava's CPU simulator."""

from typing import TYPE_CHECKING

from esl_neuro.lazy import lazily

if TYPE_CHECKING:
    from esl_neuro.backends.divergence import TraceDivergence, diverge
    from esl_neuro.backends.golden import read_trace, write_trace
    from esl_neuro.backends.integer import count_integer, run_integer
    from esl_neuro.backends.lava import run_lava
    from esl_neuro.backends.lava_batched import run_lava_batched
    from esl_neuro.backends.lava_script import write_lava_script
    from esl_neuro.backends.netx import write_netx
    from esl_neuro.backends.trace import Trace, first_difference

_HOMES = {
    "TraceDivergence": "divergence",
    "diverge": "divergence",
    "read_trace": "golden",
    "write_trace": "golden",
    "count_integer": "integer",
    "run_integer": "integer",
    "run_lava": "lava",
    "run_lava_batched": "lava_batched",
    "write_lava_script": "lava_script",
    "write_netx": "netx",
    "Trace": "trace",
    "first_difference": "trace",
}
__all__ = [
    "Trace",
    "TraceDivergence",
    "count_integer",
    "diverge",
    "first_difference",
    "read_trace",
    "run_integer",
    "run_lava",
    "run_lava_batched",
    "write_lava_script",
    "write_netx",
    "write_trace",
]
__getattr__ = lazily(__name__, _HOMES)
