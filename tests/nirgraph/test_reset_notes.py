"""Resets: which notes a graph may have, and what a spike does to the potential."""

from __future__ import annotations

import warnings
from copy import deepcopy

import h5py
import nir
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esl_neuro.compiler.float_groups import run_groups
from esl_neuro.compiler.frontend import analyse, read_network
from esl_neuro.errors import BadInput
from esl_neuro.nirgraph.files import read_nir, write_nir
from esl_neuro.nirgraph.findings import WARNING
from esl_neuro.nirgraph.reading import discretise
from esl_neuro.nirgraph.reset_notes import read_note, read_resets, with_reset
from esl_neuro.nirgraph.simulation import simulate
from esl_neuro.nirgraph.structure import flat_graph
from esl_neuro.resets import RESETS, SUBTRACT, SUBTRACT_NEXT_STEP, ZERO

DT = 1e-4

SAYS = [
    ({"reset_mechanism": "subtract"}, SUBTRACT),
    ({"reset": "reset_by_subtraction"}, SUBTRACT),
    ({"reset_mode": "by_subtraction"}, SUBTRACT),
    ({"reset_mode": "by_sub"}, SUBTRACT),
    ({"reset": "bysub"}, SUBTRACT),
    ({"reset_type": "soft"}, SUBTRACT),
    ({"reset": "Soft Reset"}, SUBTRACT),
    ({"reset": "softreset"}, SUBTRACT),
    ({"soft_reset": True}, SUBTRACT),
    ({"hard_reset": False}, SUBTRACT),
    ({"subtract_reset": np.int64(1)}, SUBTRACT),
    ({"reset_fn": "MembraneSubtract(subtract_value=None)"}, SUBTRACT),
    ({"activation": "MembraneSubtract"}, SUBTRACT),
    ({"resetMechanism": "Subtractive"}, SUBTRACT),
    ({"reset": "v -= v_th"}, SUBTRACT),
    ({"neuron": {"model": "lif", "reset": "sub"}}, SUBTRACT),
    ({"config": '{"beta": 0.9, "reset_mechanism": "subtract"}'}, SUBTRACT),
    ({"note": "all neurons reset by subtraction"}, SUBTRACT),
    ({"reset": b"subtract"}, SUBTRACT),
    ({"reset": np.array(["subtract", "subtract"])}, SUBTRACT),
    ({"reset_mechanism": "subtract", "reset_delay": False}, SUBTRACT),
    ({"reset_mechanism": "subtract", "reset_delay": True}, SUBTRACT_NEXT_STEP),
    ({"reset": "subtract in the next step"}, SUBTRACT_NEXT_STEP),
    *(({"reset": reset}, reset) for reset in RESETS),
    ({"reset_mechanism": "to_zero"}, ZERO),
    ({"reset": "hard"}, ZERO),
    ({"reset": "v_reset"}, ZERO),
    ({"reset_fn": "MembraneReset(reset_value=0.0)"}, ZERO),
    ({"soft_reset": "false"}, ZERO),
    ({"reset": "0"}, ZERO),
]

SAYS_NOTHING = [
    {},
    None,
    {"dt_s": 1e-4, "generator": "esl-neuro", "steps": 10},
    {"detach_reset": True},
    {"v_reset": 0.0},
    {"reset_between_samples": True},
    {"reset_interval": 16},
    {"reset_delay": True},
    {"preset": "sub-ms"},
    {"baseline": "subtracted before encoding"},
]

UNCLEAR = [
    ({"reset": "exponential"}, WARNING, "'reset: exponential' is not understood"),
    ({"reset": 1}, WARNING, "'reset: 1' is not understood"),
    ({"mode": "soft"}, WARNING, "'mode: soft' is not understood"),
    ({"note": "reset to zero, not by subtraction"}, WARNING, "is not understood"),
    ({"reset": "zero", "reset_mechanism": "subtract"}, "error", "contradict each other"),
    ({"reset_mechanism": "none"}, "error", "without a reset"),
]


@pytest.mark.parametrize(("metadata", "reset"), SAYS)
def test_notes_in_many_words(metadata, reset):
    assert read_note(metadata, "node") == (reset, [])


@pytest.mark.parametrize("metadata", SAYS_NOTHING)
def test_metadata_that_are_not_about_spikes(metadata):
    assert read_note(metadata, "node") == (None, [])


@pytest.mark.parametrize(("metadata", "severity", "words"), UNCLEAR)
def test_unclear_notes_are_findings(metadata, severity, words):
    reset, (finding,) = read_note(metadata, "node 'a'")
    assert reset is None
    assert (finding.kind, finding.place, finding.severity) == ("reset-note", "node 'a'", severity)
    assert words in finding.message


def lif(neurons, beta=0.9, metadata=None, dtype=np.float64):
    tau = np.full(neurons, DT / (1 - beta)).astype(dtype)
    zero, one = np.zeros(neurons, dtype), np.ones(neurons, dtype)
    node = nir.LIF(tau=tau, r=(tau / DT).astype(dtype), v_leak=zero, v_threshold=one, v_reset=zero)
    node.metadata = metadata or {}
    return node


def ends(before, after):
    return {"input": nir.Input({"input": np.array([before])}), "output": nir.Output({"output": np.array([after])})}


def network(weights, neurons, metadata=None):
    graph = nir.NIRGraph(
        {**ends(weights.shape[1], len(weights)), "fc": nir.Affine(weights, np.zeros(len(weights))), "lif": neurons},
        [("input", "fc"), ("fc", "lif"), ("lif", "output")],
    )
    graph.metadata = metadata or {}
    return graph


def nested(note_inside=None, note_around=None, note_of_node=None):
    """Two layers, the second one in a graph of its own."""
    inner = nir.NIRGraph(
        {**ends(3, 3), "lif": lif(3, metadata=note_of_node)}, [("input", "lif"), ("lif", "output")], note_inside or {}
    )
    graph = nir.NIRGraph(
        {**ends(4, 3), "fc": nir.Affine(np.ones((3, 4)), np.zeros(3)), "lif": lif(3), "sub": inner},
        [("input", "fc"), ("fc", "lif"), ("lif", "sub"), ("sub", "output")],
        {"dt_s": DT, **(note_around or {})},
    )
    return graph


SUB, HARD = {"reset": "subtract"}, {"reset": "zero"}


@pytest.mark.parametrize(
    ("notes", "outer", "inner"),
    [
        ({}, ZERO, ZERO),
        ({"note_around": SUB}, SUBTRACT, SUBTRACT),
        ({"note_inside": SUB}, ZERO, SUBTRACT),
        ({"note_of_node": SUB}, ZERO, SUBTRACT),
        ({"note_around": SUB, "note_inside": HARD}, SUBTRACT, ZERO),
        ({"note_around": SUB, "note_inside": HARD, "note_of_node": SUB}, SUBTRACT, SUBTRACT),
    ],
)
def test_the_note_nearest_to_a_node_counts_in_every_reading(notes, outer, inner, tmp_path):
    graph = nested(**notes)
    write_nir(tmp_path / "graph.nir", graph)
    for each in (graph, read_nir(tmp_path / "graph.nir")):
        resets, findings = read_resets(each)
        assert (resets, findings) == ({"lif": outer, "sub.lif": inner}, [])
        discrete = discretise(each)
        assert {name: node.reset_by is not None for name, node in discrete.neurons.items()} == {
            "lif": outer != ZERO,
            "sub.lif": inner != ZERO,
        }
        assert [group.reset_by is not None for group in read_network(each).groups] == [outer != ZERO, inner != ZERO]
        flat = flat_graph(discrete.structure, DT, each.metadata)
        assert read_resets(flat)[0] == {"lif": outer, "sub.lif": inner}


def subtracting(weights, inputs, beta, late=False):
    """Spikes from the equations alone: at once, or as snnTorch writes it with a delayed reset."""
    samples, steps, _ = inputs.shape
    v, spikes = np.zeros((samples, len(weights))), np.zeros((samples, steps, len(weights)))
    for step in range(steps):
        v = beta * v + inputs[:, step] @ weights.T
        if late and step:
            v -= spikes[:, step - 1]
        spikes[:, step] = v > 1
        if not late:
            v = v - spikes[:, step]
    return spikes


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), reset=st.sampled_from(RESETS[1:]), size=st.sampled_from([0.5, 3.0]))
def test_simulation_and_groups_follow_the_equations(seed, reset, size):
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, size, (5, 4))
    graph = network(weights, lif(5, beta=0.5), {"dt_s": DT, "reset": reset})  # a decay of a half rounds nothing
    inputs = (rng.random((3, 20, 4)) < 0.5).astype(float)
    expected = subtracting(weights, inputs, 0.5, late=reset == SUBTRACT_NEXT_STEP)
    found, groups = simulate(graph, inputs), run_groups(read_network(graph), inputs)
    assert np.array_equal(found.spikes["lif"], expected)
    assert np.array_equal(groups.spikes["lif"], expected)
    assert np.array_equal(groups.v["lif"], found.potentials["lif"])


def test_several_thresholds_at_once_spike_step_by_step():
    graph = network(np.array([[3.5]]), lif(1, beta=1 - 2.0**-40), {"dt_s": DT, "reset": "subtract"})
    inputs = np.array([[[1.0], [0.0], [0.0], [0.0], [0.0]]])
    assert simulate(graph, inputs).spikes["lif"].ravel().tolist() == [1, 1, 1, 0, 0]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), reset=st.sampled_from(RESETS), exponent=st.integers(-4, 4))
def test_scaling_weights_bias_and_threshold_of_a_neuron_changes_nothing(seed, reset, exponent):
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(0, 1, (4, 3)), rng.normal(0, 0.2, 4)
    graph = network(weights, lif(4, beta=0.75), {"dt_s": DT, "reset": reset})
    graph.nodes["fc"].bias = bias
    scaled = deepcopy(graph)
    row = 2.0 ** (exponent * np.arange(4))
    scaled.nodes["fc"].weight, scaled.nodes["fc"].bias = weights * row[:, None], bias * row
    scaled.nodes["lif"].v_threshold = row
    inputs = (rng.random((2, 15, 3)) < 0.5).astype(float)
    assert np.array_equal(simulate(graph, inputs).spikes["lif"], simulate(scaled, inputs).spikes["lif"])


def test_a_reset_can_be_stated():
    graph = network(np.eye(2) * 0.7, lif(2), {"dt_s": DT})
    inputs = np.ones((1, 8, 2))
    stated, findings = with_reset(graph, "subtract")
    assert findings == []
    assert read_resets(stated)[0] == {"lif": SUBTRACT}
    assert graph.metadata == {"dt_s": DT}
    assert graph.nodes["lif"].metadata == {}
    assert np.array_equal(simulate(graph, inputs, reset="subtract").outputs, simulate(stated, inputs).outputs)
    assert simulate(graph, inputs).outputs.sum() < simulate(stated, inputs).outputs.sum()
    with pytest.raises(BadInput, match="reset 'substract' is unknown; did you mean 'subtract'"):
        simulate(graph, inputs, reset="substract")


def test_a_statement_against_a_note_is_refused_and_a_more_precise_one_is_not():
    graph = nested(note_around=SUB, note_of_node=HARD)
    _, findings = with_reset(graph, "subtract_next_step")
    assert [finding.place for finding in findings] == ["node 'sub.lif'"]
    assert "note the reset 'zero', but 'subtract_next_step' is stated" in findings[0].message
    with pytest.raises(BadInput, match="the NIR graph cannot be read: graph: its metadata note the reset 'subtract'"):
        discretise(nested(note_around=SUB), reset="zero")
    assert with_reset(nested(note_around=SUB), "subtract_next_step")[1] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"v_reset": np.full(2, -0.5)}, "resets by subtraction according to its metadata, but has a v_reset of -0.5"),
        ({"tau": np.full(2, DT)}, "nothing remains of the potential"),
    ],
)
def test_subtractions_without_a_meaning_are_refused(changes, words):
    node = lif(2)
    for name, value in changes.items():
        setattr(node, name, value)
    with pytest.raises(BadInput, match=words):
        discretise(network(np.eye(2), node, {"dt_s": DT, "reset": "subtract_next_step"}))


def test_a_file_in_the_form_of_snntorch_is_warned_about():
    graph = network(np.eye(3), lif(3, dtype=np.float32))
    (finding,) = read_resets(graph)[1]
    assert (finding.kind, finding.severity) == ("reset-unknown", WARNING)
    assert "snnTorch" in finding.message
    assert "'lif' are read as reset to zero" in finding.message
    assert [found.kind for found in analyse(graph, DT)[1]] == ["reset-unknown"]
    assert analyse(graph, DT, "subtract")[1] == []


def test_the_float_simulation_warns_too_and_not_if_the_reset_is_stated():
    graph, inputs = network(np.eye(3), lif(3, dtype=np.float32)), np.ones((1, 4, 3))
    with pytest.warns(UserWarning, match="the form that snnTorch writes"):
        simulate(graph, inputs, DT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(graph, inputs, DT, "zero")


def test_a_note_on_a_node_without_potential_is_warned_about():
    graph = network(np.eye(3), lif(3), {"dt_s": DT})
    graph.nodes["fc"].metadata = {"reset": "subtract"}
    (finding,) = read_resets(graph)[1]
    assert (finding.place, finding.severity) == ("node 'fc'", WARNING)
    assert "no potential that resets" in finding.message


@pytest.mark.parametrize(
    "graph",
    [
        network(np.eye(3), lif(3)),  # double precision: SpikingJelly, and what is made by hand
        network(np.eye(3), lif(3, dtype=np.float32), {"generator": "other"}),
        network(np.eye(3), lif(3, dtype=np.float32), {"reset": "zero"}),
    ],
)
def test_other_files_are_not(graph):
    assert read_resets(graph)[1] == []


def test_a_file_of_nir_104_without_a_note_is_warned_about(tmp_path):
    path = tmp_path / "old.nir"
    write_nir(path, network(np.eye(3), lif(3)), "1.0.4")
    assert read_resets(read_nir(path)) == ({"lif": ZERO}, [])  # ours note the reset in the metadata of the graph
    with h5py.File(path, "r+") as file:
        del file["node/metadata"]
    (finding,) = read_resets(read_nir(path))[1]
    assert finding.kind == "reset-unknown"
    assert "written by NIR 1.0.4" in finding.message
    assert "sinabs" in finding.message
    assert read_resets(with_reset(read_nir(path), "zero")[0])[1] == []


def test_files_for_older_readers_keep_the_reset(tmp_path):
    graph = network(np.eye(3), lif(3, metadata={"reset": "subtract"}), {"dt_s": DT})
    write_nir(tmp_path / "old.nir", graph, "1.0.4")
    assert read_resets(read_nir(tmp_path / "old.nir"))[0] == {"lif": SUBTRACT}
    with pytest.raises(BadInput, match=r"the neurons have different resets \(subtract, zero\)"):
        write_nir(tmp_path / "old.nir", nested(note_of_node=SUB), "1.0.4")


def test_metadata_of_any_depth_are_read():
    for note in ("[" * 100_000, "[" * 400 + "]" * 400, '{"a":' * 400 + "1" + "}" * 400):
        graph = nir.NIRGraph({"n": nir.Threshold(np.ones(1))}, [], {"reset": note}, type_check=False)
        read_resets(graph)


def test_a_text_that_only_begins_like_json_is_a_text():
    for text in ("{subtract", "[soft reset", "[" * 10**5):
        reset, findings = read_note({"reset": text}, "graph")
        assert (reset, findings) == (SUBTRACT, []) if "s" in text else reset is None
    assert read_note({"neuron": '{"reset": ["subtract"]}'}, "graph") == (SUBTRACT, [])


def test_a_note_on_a_node_without_a_potential_is_named():
    node = nir.Scale(np.ones(2))
    node.metadata = {"reset": "subtract"}
    ends = {"input": nir.Input({"input": np.array([2])}), "output": nir.Output({"output": np.array([2])})}
    _, findings = read_resets(nir.NIRGraph({**ends, "a": node}, [("input", "a"), ("a", "output")], type_check=False))
    assert [(each.kind, each.place, each.severity, each.message) for each in findings] == [
        (
            "reset-note",
            "node 'a'",
            WARNING,
            "its metadata note a reset by subtraction, but it has no potential that resets; note it on a neuron",
        )
    ]
