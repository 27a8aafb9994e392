"""Compiling compares integers with floats, and makes its choices on validation samples."""

from __future__ import annotations

import numpy as np
import pytest

from esl_neuro.compiler.fidelity import affordable
from esl_neuro.errors import BadInput, CheckFailed
from esl_neuro.nirgraph.files import write_nir
from esl_neuro.pipeline.compilation import check, compile
from esl_neuro.pipeline.compiled_network import load_compiled
from esl_neuro.pipeline.decisions import ACCEPTED_LOSS, TIME_STEPS_S, choose_time_step
from esl_neuro.pipeline.fidelity import draw
from esl_neuro.pipeline.inputs import Samples
from pipeline.graphs import graph


def without_decay():
    long = graph(steps=100)
    long.nodes["lif"].tau = np.full(4, 2.0)
    long.nodes["lif"].r = np.full(4, 2e4)
    return long


def test_a_run_is_compared_on_validation_samples(run, tmp_path):
    chip = compile(run)
    assert "validation samples" in chip.fidelity.inputs
    assert not chip.fidelity.drawn
    assert [layer.layer for layer in chip.fidelity.layers] == ["lif1", "lif2"]
    chip.save(tmp_path)
    again = load_compiled(tmp_path)
    assert (again.fidelity, again.decisions) == (chip.fidelity, chip.decisions)


def test_a_graph_is_compared_on_given_or_drawn_input():
    inputs = (np.random.default_rng(0).random((5, 20, 4)) < 0.4).astype(np.uint8)
    given, drawn = compile(graph(), inputs=inputs, layout="samples,steps,..."), compile(graph(steps=20))
    assert given.fidelity.inputs == "5 samples x 20 steps"
    assert drawn.fidelity.drawn
    assert "seed 0" in drawn.fidelity.inputs
    repeated = draw(drawn.program)
    assert (repeated.payloads == draw(drawn.program).payloads).all()
    assert len(repeated.payloads) == affordable(drawn.program, 400)


def test_a_loss_is_refused_unless_it_is_accepted(tmp_path):
    path = tmp_path / "long.nir"
    write_nir(path, without_decay())
    with pytest.raises(CheckFailed, match=r"long\.nir: .*does not decay.*--accept-loss"):
        compile(path)
    accepted = compile(path, accept_loss=True)
    assert "no-decay" in [finding.kind for finding in accepted.findings]


class Coarse:
    """A network whose first ``wrong`` of 100 predictions are wrong."""

    def __init__(self, wrong):
        self.program, self.wrong = None, wrong


@pytest.mark.parametrize(
    ("wrong", "chosen"),
    [
        ((0, 0, 0, 0), 0),  # the longest that is good enough
        ((3, 2, 0, 0), 2),
        ((9, 2, 4, 5), 1),  # none is: the one that costs least
    ],
)
def test_the_longest_time_step_that_costs_little_is_chosen(monkeypatch, wrong, chosen):
    from esl_neuro.pipeline import decisions

    labels = np.zeros(100, dtype=np.int64)
    monkeypatch.setattr(decisions, "predict", lambda network, _: (np.arange(100) < network.wrong, None))
    of_step = dict(zip(TIME_STEPS_S, wrong, strict=True))
    samples = Samples(np.zeros((100, 1, 1)), labels, "100 validation samples")
    dt_s, decision = choose_time_step(lambda each: Coarse(of_step[each]), samples, 1.0)
    assert dt_s == TIME_STEPS_S[chosen]
    assert str(decision).startswith(f"time step: {dt_s:g} s; cost on 100 validation samples: 0.001 s ")
    tried = [each.accuracy_loss for each in decision.candidates]
    assert tried == pytest.approx([number / 100 for number in wrong[: len(tried)]])
    assert len(tried) == len(TIME_STEPS_S) or tried[-1] <= ACCEPTED_LOSS


def test_a_single_spike_run_says_which_time_step_it_chose(single_spike_run):
    chip = compile(single_spike_run, accept_loss=True)
    (decision,) = chip.decisions
    assert decision.subject == "time step"
    assert f"{chip.program.dt_s:g} s" == decision.chosen
    assert str(decision) in str(chip)


def test_calibration_is_kept_only_if_nothing_gets_worse(run):
    plain, searched = compile(run), compile(run, calibrate=50)
    (decision,) = searched.decisions
    formula, calibrated = decision.candidates
    worse = any(calibrated.moved[layer] > formula.moved[layer] for layer in formula.moved)
    if worse or calibrated.accuracy_loss > formula.accuracy_loss or calibrated.moved == formula.moved:
        assert decision.chosen == "by formula"
        assert searched.scalings == plain.scalings == {}
    else:
        assert decision.chosen == "calibrated"


def test_calibration_of_a_graph_is_compared_on_the_same_inputs():
    inputs = (np.random.default_rng(0).random((20, 20, 4)) < 0.4).astype(np.uint8)
    (decision,) = compile(graph(), inputs=inputs, layout="samples,steps,...", calibrate=10).decisions
    assert decision.samples == "10 of 20 samples"
    assert [each.accuracy_loss for each in decision.candidates] == [None, None]


def test_a_check_compares_on_the_given_inputs_spikes_or_graded():
    rng = np.random.default_rng(0)
    spikes = (rng.random((5, 20, 4)) < 0.4).astype(np.uint8)
    given = check(graph(), inputs=spikes, layout="samples,steps,...")
    assert given.fidelity == compile(graph(), inputs=spikes, layout="samples,steps,...").fidelity
    graded = check(graph(), inputs=rng.random((5, 20, 4)), layout="samples,steps,...")
    assert "graded-input" in [finding.kind for finding in graded.findings]
    assert graded.fidelity.layers[0].spikes_float > 0
    with pytest.raises(BadInput, match="can be 5 samples of 20 steps"):
        check(graph(), inputs=spikes)


def test_a_check_of_a_graph_without_integers_reports_that_graph_with_inputs_too():
    wrong = graph(steps=20)
    wrong.nodes["lif"].v_threshold = -wrong.nodes["lif"].v_threshold
    checked = check(wrong, inputs=np.zeros((5, 20, 4)))
    assert not checked.compiles
    assert "threshold" in [finding.kind for finding in checked.findings]


def test_the_number_of_calibration_samples_may_be_an_integer_of_numpy(run):
    assert [each.subject for each in compile(run, calibrate=np.int64(20)).decisions] == ["scales"]
