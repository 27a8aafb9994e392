"""A chip with other registers is a TOML file: nothing of the compiler or the simulators knows Loihi's widths."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import nir
import numpy as np
import pytest

from esl_neuro.backends.integer import run_integer
from esl_neuro.backends.validate import validate
from esl_neuro.compiler.check import check_graph
from esl_neuro.compiler.compile import compile_graph
from esl_neuro.compiler.program import Program, differences
from esl_neuro.errors import BadInput
from esl_neuro.hardware import arithmetic_of, load_target
from esl_neuro.resources import find_resource

STEPS, LINES, NEURONS = 6, 12, 9
LOIHI2 = load_target("loihi2")


@pytest.fixture
def chip(tmp_path):
    """Make a chip like Loihi 2, with some registers of other widths."""

    def make(**registers):
        text = find_resource("hw_targets", "loihi2").read_text(encoding="utf-8").replace('"loihi2"', '"other"')
        for name, value in registers.items():
            before = f"\n{name} = {getattr(LOIHI2.arithmetic, name)}".replace("'", '"')
            assert text.count(before) == 1
            text = text.replace(before, f"\n{name} = {value}".replace("'", '"'))
        path = tmp_path / "other.toml"
        path.write_text(text, encoding="utf-8")
        return load_target(str(path))

    return make


def graph(seed=0):
    """Two layers of CUBA-LIF neurons with large biases."""
    rng = np.random.default_rng(seed)
    nodes, edges, before = {"input": nir.Input({"input": np.array([LINES])})}, [], "input"
    for index, (size, sources) in enumerate([(NEURONS, LINES), (4, NEURONS)]):
        nodes[f"fc{index}"] = nir.Linear(rng.normal(0, 0.4, (size, sources)))
        nodes[f"lif{index}"] = nir.CubaLIF(
            tau_syn=rng.uniform(2e-3, 6e-3, size),
            tau_mem=rng.uniform(2e-3, 9e-3, size),
            r=np.full(size, 3.0),
            v_leak=rng.uniform(0, 9, size),
            v_threshold=rng.uniform(0.3, 1, size),
            w_in=np.full(size, 2.0),
        )
        edges += [(before, f"fc{index}"), (f"fc{index}", f"lif{index}")]
        before = f"lif{index}"
    nodes["output"] = nir.Output({"output": np.array([4])})
    return nir.NIRGraph(nodes, [*edges, (before, "output")])


def compiled(target):
    return compile_graph(graph(), target, STEPS, 1e-3).program


NARROWER = {
    "weight_min": {"weight_min": -32},
    "weight_max": {"weight_max": 30},
    "weight_step": {"weight_step": 4, "weight_min": -252, "weight_max": 252},
    "decay_bits": {"decay_bits": 5},
    "threshold_bits": {"threshold_bits": 7},
    "bias_mantissa_bits": {"bias_mantissa_bits": 5},
    "bias_exponent_bits": {"bias_exponent_bits": 1},
    "all": {"weight_min": -16, "weight_max": 16, "decay_bits": 4, "threshold_bits": 9, "bias_mantissa_bits": 8},
}


@pytest.mark.parametrize("registers", NARROWER.values(), ids=NARROWER)
def test_numbers_are_rounded_to_what_the_registers_of_the_target_hold(chip, registers):
    target = chip(**registers)
    program = compiled(target)
    formats = program.formats
    assert differences(program, compiled(LOIHI2)) != ["target", "arithmetic"]
    for connection in program.connections:
        values = connection.weights.data
        assert formats.weight_min <= values.min()
        assert values.max() <= formats.weight_max
        assert (values % formats.weight_step == 0).all()
    for group in program.groups:
        # 1/4096 times this is a multiple of the smallest decay of the chip.
        assert ((group.du + 1) % 2 ** (12 - formats.decay_bits) == 0).all()
        assert (group.dv % 2 ** (12 - formats.decay_bits) == 0).all()
        assert group.vth.max() < 2**formats.threshold_bits
        assert abs(group.bias_mant).max() < 2 ** (formats.bias_mantissa_bits - 1)
        assert group.bias_exp.max() < 2**formats.bias_exponent_bits
    validate(program)
    run_integer(program, np.ones((1, STEPS, LINES), dtype=np.uint8))


@pytest.mark.parametrize(
    ("registers", "quantity", "allowed"),
    [
        ({"weight_max": 30}, "weights", "even, from -254 to 30"),
        ({"weight_step": 4, "weight_min": -252, "weight_max": 252}, "weights", "in steps of 4, from -252 to 252"),
        ({"decay_bits": 5}, "du", "in steps of 128, from -1 to 4095"),
        ({"decay_bits": 5}, "dv", "in steps of 128, from 0 to 3968"),
        ({"threshold_bits": 6}, "vth", "from 0 to 63"),
        ({"bias_mantissa_bits": 5}, "bias_mant", "from -15 to 15"),
        ({"bias_exponent_bits": 1}, "bias_exp", "from 0 to 1"),
    ],
)
def test_a_program_for_loihi_is_refused_where_its_numbers_are_too_wide(chip, registers, quantity, allowed):
    program = compiled(LOIHI2)
    validate(program)
    with pytest.raises(BadInput) as caught:
        validate(replace(program, target="other", arithmetic=arithmetic_of(chip(**registers))))
    assert f"{quantity}: " in str(caught.value)
    assert f"allowed: {allowed} (registers of 'other')" in str(caught.value)


def test_weight_exponents_stay_within_those_of_the_target(chip):
    strong = graph()
    strong.nodes["lif0"].v_threshold = np.full(NEURONS, 4000.0)  # far above the weights
    assert compile_graph(strong, LOIHI2, STEPS, 1e-3).program.connections[0].weight_exp < -1
    narrow = chip(weight_exp_min=-1, weight_exp_max=1)
    program = compile_graph(strong, narrow, STEPS, 1e-3).program
    assert program.connections[0].weight_exp == -1
    with pytest.raises(BadInput, match="weight_exp is -3; allowed: from -1 to 1"):
        validate(replace(program, connections=(replace(program.connections[0], weight_exp=-3), program.connections[1])))


def test_wider_registers_are_refused_where_a_number_needs_them(chip):
    wide = compiled(chip(weight_max=1000, weight_min=-1000))
    with pytest.raises(BadInput, match=r"allowed: even, from -254 to 254 \(simulators\)"):
        validate(wide)


@pytest.mark.parametrize("bits", [20, 32])
def test_potentials_of_another_width_are_refused_by_the_simulators(chip, bits):
    with pytest.raises(BadInput, match=f"'other' has currents and potentials of {bits} bits; the simulators.* 24"):
        validate(compiled(chip(potential_bits=bits)))


def test_more_decay_bits_than_a_program_writes_are_refused(chip):
    with pytest.raises(BadInput, match="decay_bits: 16 is not allowed: it should be less than or equal to 12"):
        chip(decay_bits=16)


def test_an_end_of_the_range_that_is_no_weight_is_refused(chip):
    with pytest.raises(BadInput, match=r"weight_max is 254; it must be a multiple of weight_step \(4\)"):
        chip(weight_step=4, weight_min=-252)


def test_a_saved_program_keeps_the_registers_it_was_compiled_for(chip, tmp_path):
    program = compiled(chip(threshold_bits=7))
    program.save(tmp_path)
    again = Program.load(tmp_path)
    assert differences(program, again) == []
    assert again.formats == program.formats
    assert differences(program, replace(again, arithmetic=LOIHI2.arithmetic)) == ["arithmetic"]


@pytest.mark.parametrize("target", ["loihi2", "loihi", "a file of the user's"])
def test_a_program_saved_before_it_had_registers_has_those_of_loihi(tmp_path, target):
    program = replace(compiled(LOIHI2), target=target)
    program.save(tmp_path)
    path = tmp_path / "program.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["arithmetic"]
    path.write_text(json.dumps(document), encoding="utf-8")
    again = Program.load(tmp_path)
    assert again.arithmetic is None
    assert again.formats == load_target("loihi" if target == "loihi" else "loihi2").arithmetic
    validate(again)


def subtracting_graph():
    subtracting = graph()
    subtracting.metadata["reset_mechanism"] = "subtract"
    return subtracting


def test_a_reset_that_the_chip_does_not_have_is_refused_with_every_layer(chip):
    for target in ("loihi", chip(resets=["zero"])):
        with pytest.raises(BadInput, match=r"'lif0': resets by subtraction; .*reset to zero only: .*; node 'lif1'"):
            compile_graph(subtracting_graph(), target, STEPS, 1e-3)
        checked = check_graph(subtracting_graph(), target, STEPS, 1e-3)
        assert [(each.kind, each.place) for each in checked.findings] == [
            ("soft-reset", "node 'lif0'"),
            ("soft-reset", "node 'lif1'"),
        ]
        assert not checked.compiles
    with pytest.raises(BadInput, match="resets to zero; the neurons of 'other' reset by subtraction only"):
        compile_graph(graph(), chip(resets=["subtract"]), STEPS, 1e-3)


def test_a_chip_says_which_resets_it_has(chip):
    assert load_target("loihi2").arithmetic.resets == ["zero", "subtract"]
    assert load_target("loihi").arithmetic.resets == ["zero"]
    with pytest.raises(BadInput, match=r"arithmetic\.resets"):
        chip(resets=["soft"])


def test_what_a_spike_subtracts_is_the_rounded_threshold():
    program = compile_graph(subtracting_graph(), LOIHI2, STEPS, 1e-3).program
    for group in program.groups:
        assert group.reset == "subtract"
        assert group.reset_by.tolist() == (group.vth << 6).tolist()
    validate(program)


def test_a_subtraction_in_the_next_step_is_larger_by_the_leak():
    compilation = compile_graph(graph(), LOIHI2, STEPS, 1e-3, reset="subtract_next_step")
    for group in compilation.program.groups:
        threshold = group.vth << 6
        after_the_leak = group.reset_by * (4096 - group.dv) / 4096
        assert (abs(after_the_leak - threshold) <= 0.5).all()
        assert (group.reset_by > threshold).all()
    assert all(error.reset_error < 0.01 for error in compilation.errors)


def test_a_subtraction_that_the_register_cannot_hold_is_told():
    fast = graph()
    for name in ("lif0", "lif1"):
        fast.nodes[name].tau_mem = np.full(fast.nodes[name].tau_mem.shape, 1.01e-3)  # 1 % remains after a step
        fast.nodes[name].v_threshold *= 1000
    compilation = compile_graph(fast, LOIHI2, STEPS, 1e-3, reset="subtract_next_step")
    assert [each.kind for each in compilation.findings].count("clipped-reset") == 2
    assert compilation.program.groups[0].reset_by.max() == 2**23 - 1
    validate(compilation.program)


@pytest.mark.parametrize(("per_position", "fits"), [(False, True), (True, False)])
def test_positions_that_share_a_kernel_need_one_threshold_where_a_layer_has_one(per_position, fits):
    rng = np.random.default_rng(0)
    thresholds = rng.uniform(0.5, 1, (3, 4, 4) if per_position else (3, 1, 1)) * np.ones((3, 4, 4))
    like = {"tau": np.full((3, 4, 4), 2e-3), "r": np.ones((3, 4, 4)), "v_leak": np.zeros((3, 4, 4))}
    nodes = {
        "input": nir.Input({"input": np.array([1, 4, 4])}),
        "conv": nir.Conv2d((4, 4), rng.normal(size=(3, 1, 3, 3)), 1, 1, 1, 1, np.zeros(3)),
        "lif": nir.LIF(**like, v_threshold=thresholds),
        "output": nir.Output({"output": np.array([3, 4, 4])}),
    }
    network = nir.NIRGraph(nodes, list(pairwise(nodes)), metadata={})
    checked = check_graph(network, "loihi", STEPS, 1e-3)
    assert checked.fits == fits
    found = [finding.place for finding in checked.findings if finding.kind == "several-thresholds"]
    assert found == ([] if fits else ["layer 'lif'"])
