"""What the energy room answers about round counts; the numbers of every price model are derived in ``test_prices.py``.

``python tests/energy/answers.py`` names what differs; with ``--write`` it stores the answers anew.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from answers import canonical, main
from energy.make_counts import LAYER, spread
from esl_neuro.backends.trace import Trace
from esl_neuro.compiler.program import Connection, Group, Program
from esl_neuro.energy.cite import caption
from esl_neuro.energy.comparison import Side, compare_counts
from esl_neuro.energy.counts import Counts
from esl_neuro.energy.literature import LITERATURE, literature
from esl_neuro.energy.presets import esl2023
from esl_neuro.energy.prices import price
from esl_neuro.energy.report import EnergyReport, energy_report
from esl_neuro.energy.validation import validation
from esl_neuro.hardware import load_target
from esl_neuro.resources import resource_names

STORED = Path(__file__).with_suffix(".json")
LEFT_OUT = ("constants", "counts")  # what the files of the chips say; what test_counts.py proves

PLACED = dataclasses.replace(
    LAYER,
    messages=14,
    hops_ew=6,
    hops_ns=2,
    macs_effective=4,
    bias_adds=20,
    runs=LAYER.runs
    | {"messages": spread(10, 4), "hops_ew": spread(4, 2), "hops_ns": spread(2, 0), "macs_effective": spread(3, 1)},
)
# Its source is on no core, so the ways of its messages are unknown.
CONVOLUTION = dataclasses.replace(
    LAYER, name="conv", weights=3000, state_writes=160, messages=6, runs=LAYER.runs | {"messages": spread(5, 1)}
)
COUNTS = Counts(2, 10, (PLACED, CONVOLUTION))


def a_report() -> EnergyReport:
    """Two silent layers beside one that fires, more inputs than a core of TrueNorth takes, half of the weights zero."""
    generator = np.random.default_rng(0)
    matrix = sp.csr_matrix(2 * (generator.random((3, 300)) < 0.5))
    zeros = np.zeros(3, dtype=np.int64)
    groups = tuple(Group(name, zeros, zeros, zeros + 1, zeros, zeros, 1.0) for name in ("a", "b"))
    after = sp.csr_matrix(2 * np.eye(3, dtype=np.int64))
    connections = (Connection("input", "a", matrix, 0, 900), Connection("a", "b", after, 0, 9))
    fired = (generator.random((2, 5, 3)) < 0.5).astype(np.uint8)
    trace = Trace("integer", (generator.random((2, 5, 300)) < 0.1).astype(np.uint8), {"a": fired, "b": 0 * fired})
    program = Program("loihi2", 300, 4, 1e-3, connections, groups)
    return energy_report(program, trace, ("truenorth", "loihi", "loihi2", "v100-pcie"), accuracy=0.5, network="small")


def prices() -> Any:
    """Every model of every target, term by term; one of them also without a placement."""
    asked = {name: (name, COUNTS) for name in resource_names("hw_targets")}
    asked["loihi, not placed"] = ("loihi", Counts(2, 10, (LAYER,)))
    return {
        what: [
            estimate.to_dict()
            | {"price_texts": [term.price_text for term in estimate.terms], "best_case": estimate.best_case}
            for estimate in price(counts, load_target(name), 1e-3)
        ]
        for what, (name, counts) in asked.items()
    }


def reproductions() -> Any:
    """The formulas of the literature, and the table of ESL-SNNs."""
    return [literature(name, COUNTS).to_dict() for name in LITERATURE] + [esl2023().to_dict()]


def measurements_predicted() -> Any:
    """Predictions of published measurements, without the table of Loihi 2, which test_validation.py compares."""
    return [point.to_dict() for point in validation() if point.target != "loihi2"]


def report() -> Any:
    """A report, as data, as text, and as a caption."""
    made = a_report()
    return {
        "data": made.to_dict(),
        "text": str(made).splitlines(),
        "name": repr(made),
        "caption": caption(made.samples, made.steps, made.rows),
        "summary": [estimate.name for estimate, _ in made.summary],
    }


def comparison() -> Any:
    """Two networks at the same prices."""
    one, other = Side("one", "2 samples", None, COUNTS), Side("other", "2 samples", 0.5, Counts(2, 10, (LAYER,)))
    return compare_counts(one, other, ("truenorth", "loihi", "loihi2", "v100-pcie", "akida"), 1e-3).to_dict()


def answered(ask: Callable[[], Any]) -> Callable[[], Any]:
    """Return an answer as plain data."""
    return lambda: canonical(ask(), LEFT_OUT)


ANSWERS = {
    each.__name__: answered(each) for each in (prices, reproductions, measurements_predicted, report, comparison)
}

if __name__ == "__main__":
    main(STORED, ANSWERS)
