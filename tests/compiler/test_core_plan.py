"""A network that was trained for cores keeps them, and a plan that does not fit is said and replaced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from compiler.test_placement import LOIHI  # a chip whose limits are all published
from esl_neuro.compiler.core_plan import CorePlan, read_core_plan
from esl_neuro.compiler.core_planning import CORES, plan_cores, planned
from esl_neuro.compiler.placement import check_limits, place
from esl_neuro.compiler.program import Connection, Group, Program, differences


def program(*sizes, density=0.5, plan=None):
    """Layers of these sizes, connected at random."""
    rng = np.random.default_rng(0)
    names = ["input", *(f"layer{at}" for at in range(1, len(sizes)))]
    connections = tuple(
        Connection(source, target, sp.csr_matrix((rng.random((after, before)) < density).astype(np.int32)), 0, 0)
        for source, target, before, after in zip(names, names[1:], sizes, sizes[1:], strict=False)
    )
    groups = tuple(
        Group(name, *[np.zeros(size, np.int64)] * 5, np.ones(size)) for name, size in zip(names, sizes, strict=True)
    )
    return Program("loihi", sizes[0], 1, 1e-3, connections, groups[1:], core_plan=plan)


def kinds(tried, target=LOIHI):
    return [(finding.kind, finding.severity) for finding in check_limits(tried, place(tried, target), target)]


def test_a_plan_is_kept():
    plan = CorePlan("loihi", {"layer1": (1, 1, 3), "layer2": (1, 1, 2)})
    placement = place(program(8, 9, 4, plan=plan), LOIHI)
    assert placement.planned
    assert placement.parts == plan.parts
    assert np.bincount(placement.core_of_neuron["layer1"]).tolist() == [3, 3, 3]
    assert place(program(8, 9, 4), LOIHI).cores == 2


def test_a_plan_for_another_chip_does_not_apply():
    tried = program(8, 9, 4, plan=CorePlan("loihi2", {"layer1": (1, 1, 3), "layer2": (1, 1, 2)}))
    assert place(tried, LOIHI).cores == 2
    assert kinds(tried) == []


@pytest.mark.parametrize(
    "parts",
    [
        {"layer1": (1, 1, 1)},  # a layer is missing
        {"layer1": (1, 1, 10), "layer2": (1, 1, 1)},  # more parts than neurons
        {"layer1": (1, 1, 1), "layer2": (1, 1, 1)},  # a core above a limit
    ],
)
def test_a_plan_that_does_not_hold_the_network_is_replaced_with_a_warning(parts):
    chip = LOIHI.with_limits({"neurons_per_core": 5}, "a test")
    tried = program(8, 9, 4, plan=CorePlan("loihi", parts))
    assert place(tried, chip).cores == 3
    assert kinds(tried, chip) == [("core-plan", "warning")]


@pytest.mark.parametrize(
    "entry",
    [None, 3, "text", [], {}, {"target": "loihi"}, {"target": 1, "parts": {}}, {"target": "loihi", "parts": 4},
     {"target": "loihi", "parts": {"a": [1, 2]}}, {"target": "loihi", "parts": {"a": [1, 2, 0]}},
     {"target": "loihi", "parts": {"a": [1, 1, 2]}, "cores": {"a": [0]}},
     {"target": "loihi", "parts": {"a": [1, 1, 2]}, "cores": {"a": [0, -1]}},
     {"target": "loihi", "parts": {"a": [1, 1, 2]}, "cores": {"b": [0, 1]}},
     {"target": "loihi", "parts": {"a": [1, 1, 2]}, "cores": [0, 1]},
     {"target": "loihi", "parts": {"a": [1, 2, 0.5]}}, {"target": "loihi", "parts": {"a": [[1], [2, 3], 4]}}],
)  # fmt: skip
def test_metadata_that_are_no_plan_are_a_warning(entry):
    plan, findings = read_core_plan({"cores": entry})
    assert plan is None
    assert [(finding.kind, finding.severity) for finding in findings] == [("core-plan", "warning")]
    assert read_core_plan({}) == (None, [])


def test_a_plan_is_read_as_it_was_written():
    plan = CorePlan("loihi", {"layer1": (2, 1, 3)})
    document = {"target": b"loihi", "parts": {"layer1": np.array([2, 1, 3])}}  # as from a NIR file
    assert CorePlan.of_document(document) == CorePlan.of_document(plan.to_document()) == plan


SHARED = CorePlan("loihi", {"layer1": (1, 1, 3), "layer2": (1, 1, 2)}, {"layer1": (0, 1, 2), "layer2": (2, 0)})


def test_layers_share_the_cores_of_a_plan():
    """Each core holds what its parts hold alone; an index takes more bits where a core has more neurons."""
    alone = place(program(8, 9, 4, plan=replace(SHARED, cores={})), LOIHI)
    shared = place(program(8, 9, 4, plan=SHARED), LOIHI)
    assert shared.planned
    assert shared.cores == 3
    assert shared.core_of_neuron["layer2"].tolist() == [2, 2, 0, 0]
    for name in ("neurons", "synapses", "input_axons", "output_axons"):
        there = alone.used[name]
        assert shared.used[name].tolist() == [there[0] + there[4], there[1], there[2] + there[3]]
    assert shared.used["synaptic_memory"].sum() >= alone.used["synaptic_memory"].sum()


def words(bits):
    """Bits of a run of synapses with its header."""
    return -(-(bits + 10) // 64) * 64


def test_memory_of_shared_cores_is_that_of_all_their_neurons():
    """70 neurons of two layers need indices of 7 bits, 35 alone those of 6."""
    both = CorePlan("loihi", {"layer1": (1, 1, 1), "layer2": (1, 1, 1)}, {"layer1": (0,), "layer2": (0,)})
    tried = program(30, 35, 35, plan=both, density=0.02)
    (memory,) = place(tried, LOIHI).used["synaptic_memory"].tolist()
    expected = 0
    for each in tried.connections:
        synapses = np.bincount(each.matrix.indices, minlength=each.matrix.shape[1])
        sparse = sum(words(int(count) * (8 + 7)) for count in synapses if count)
        expected += min(sparse, int((synapses > 0).sum()) * (words(64 * 8) + words(6 * 8)))
    assert memory == expected


def test_shared_cores_above_a_limit_are_replaced_with_a_warning():
    chip = LOIHI.with_limits({"neurons_per_core": 4}, "a test")
    tried = program(8, 9, 4, plan=SHARED)
    assert not place(tried, chip).planned
    assert kinds(tried, chip) == [("core-plan", "warning")]


@pytest.mark.parametrize("plan", [SHARED, CorePlan("loihi", {"layer1": (1, 1, 3), "layer2": (1, 1, 2)})])
def test_a_program_keeps_its_plan(tmp_path, plan):
    tried = program(8, 9, 4, plan=plan)
    tried.save(tmp_path)
    again = Program.load(tmp_path)
    assert again.core_plan == tried.core_plan
    assert differences(again, replace(again, core_plan=None)) == ["core_plan"]


def test_cores_that_are_left_go_to_the_layer_that_is_furthest_above_a_limit():
    tried = program(40, 20, 6, density=0.3)
    chip = LOIHI.with_limits({"input_axons_per_core": 15, CORES: 5}, "a test")
    plan = plan_cores(tried, chip)
    assert plan.parts == {"layer1": (1, 1, 4), "layer2": (1, 1, 1)}  # 40 lines reach the one, 20 the other
    assert planned(tried, plan, chip).cores == 5
    assert place(tried, chip).cores > 5


def test_a_network_that_fits_gets_the_cores_that_the_compiler_chooses():
    tried = program(40, 20, 6)
    chip = LOIHI.with_limits({"neurons_per_core": 7, CORES: 9}, "a test")
    assert plan_cores(tried, chip).parts == place(tried, chip).parts
