"""Published figures beside measured ones: the documents, the plans and what is measured."""

from __future__ import annotations

import json
import shutil

import pytest

from esl_neuro.errors import BadInput
from esl_neuro.pipeline.choices import SCALES
from esl_neuro.pipeline.reproduction import describe, load_reproduction, obstacles, reproduce
from esl_neuro.pipeline.reproduction_file import UNITS, Cell, parse_reproduction
from esl_neuro.pipeline.reproduction_quantities import QUANTITIES, count_run, counted_file, read_counted
from esl_neuro.resources import find_resource, read_toml, resource_names

NAMES = resource_names("reproductions")
SHORT_MINUTES = 240


def document(**changes):
    place = {"sweep": "tiny", "case": "sparse"}
    cell = {"row": "sparse", "published": 96.5, "grade": "table", "source": "Table 1"}
    cell |= {"smoke": place, "not_run": {"short": "too slow", "full": "needs a GPU"}}
    setting = {"network": "digits", "comparable": True, "sweeps": {"tiny": 1.0}}
    base = {"title": "Tiny", "paper": "Nobody", "unpublished": "unknown", "cells": [cell]}
    return {**base, "scales": dict.fromkeys(SCALES, setting), **changes}


def cell(**changes):
    return document()["cells"][0] | changes


# The shipped documents.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", SCALES)
def test_every_shipped_reproduction_can_be_planned_at_every_scale(name, scale, tmp_path):
    plan = load_reproduction(name, scale, tmp_path)
    assert any(runs for _, runs in plan.cells)
    described = describe(plan)
    assert not [each for each in described["cells"] if (each["measured"] is None) == (each["not_run"] is None)]


def test_the_published_tables_and_figures_are_there():
    assert {"table1", "table2", "fig2", "fig3a", "fig3b", "fig4", "stl"} <= set(NAMES)


def test_the_short_set_is_planned_for_less_than_four_hours(tmp_path):
    minutes = {}
    for name in NAMES:
        for sweep, estimate in load_reproduction(name, "short", tmp_path).setting.sweeps.items():
            assert minutes.setdefault(sweep, estimate) == estimate, sweep
    assert sum(minutes.values()) <= SHORT_MINUTES


@pytest.mark.parametrize("name", NAMES)
def test_smoke_needs_no_data_and_no_gpu(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ESL_NEURO_DATA", str(tmp_path))
    assert obstacles(load_reproduction(name, "smoke", tmp_path)) == []


def test_published_figures_of_table_1_are_those_of_the_energy_preset():
    from esl_neuro.energy.presets import PRINTED_J

    cells = parse_reproduction(read_toml(find_resource("reproductions", "table1")), "table1").cells
    printed = {(each.row, each.quantity): each.published for each in cells if each.published is not None}
    for (network, chip), energy in PRINTED_J.items():
        row = "SNN, dense" if network == "dense" else "ESL-SNN, epsilon 60"
        assert printed[row, "gpu_energy_j" if chip == "GPU" else "chip_energy_j"] == float(energy)


# Wrong documents.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"cells": [cell(quantity="test_acuracy")]},
            "quantity 'test_acuracy' is unknown; did you mean 'test_accuracy'?",
        ),
        ({"cells": [cell(grade=None)]}, "published, grade and source belong together"),
        ({"cells": [cell(not_run={"short": "slow"})]}, "give full (a sweep and a case), or not_run.full"),
        ({"cells": [cell(short={"sweep": "tiny", "case": "a"})]}, "short and not_run.short contradict each other"),
        ({"cells": [cell(smoke={"sweep": "tinny", "case": "a"})]}, "'tinny' is not in scales.smoke.sweeps"),
        ({"cells": [cell(layer="fc1")]}, "layer belongs to the quantity layer_density"),
        ({"cells": [cell(rwo="x")]}, "cells.0.rwo: unknown field; did you mean 'row'?"),
        ({"scales": {"smoke": document()["scales"]["smoke"]}}, "scales.short: is missing"),
        ({"tittle": "x"}, "tittle: unknown field; did you mean 'title'?"),
    ],
)
def test_every_error_of_a_document_is_named(changes, words):
    with pytest.raises(BadInput) as caught:
        parse_reproduction(document(**changes), "here")
    assert words in str(caught.value)


def test_unknown_names_get_the_nearest_spelling(tmp_path):
    with pytest.raises(BadInput, match=r"'tabel1' is unknown; did you mean 'table1'\?"):
        load_reproduction("tabel1", "smoke", tmp_path)


# A small experiment, really trained.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduction")
    (folder / "tiny.toml").write_text(
        'title = "Tiny"\nrecipe = "mlp-digits"\nseeds = [0, 1]\n'
        '[fixed]\n"training.epochs" = 1\n"network.notation" = "64-16-10"\n"data.steps" = 4\n'
        '"sparsity.update_every" = 5\n'
        '[[cases]]\nlabel = "sparse"\n[[cases]]\nlabel = "dense"\nset = { "sparsity.density" = 1.0 }\n'
    )
    sweep = str(folder / "tiny.toml")
    place = f'{{ sweep = "{sweep}", case = "sparse" }}'
    lines = [
        'title = "Tiny"\npaper = "Nobody"\nunpublished = "unknown"',
        *(
            f'[scales.{scale}]\nnetwork = "digits"\ncomparable = true\nsweeps = {{ "{sweep}" = 1.0 }}'
            for scale in SCALES
        ),
        f'[[cells]]\nrow = "sparse"\npublished = 50.0\ngrade = "table"\nsource = "Table 1"\nsmoke = {place}\n'
        'not_run = { short = "too slow", full = "needs a GPU" }',
        f'[[cells]]\nrow = "sparse"\nquantity = "counted_operations"\nsmoke = {place}',
        f'[[cells]]\nrow = "fc1"\nquantity = "layer_density"\nlayer = "fc1"\nsmoke = {place}',
    ]
    (folder / "small.toml").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def finished(folder):
    plan = load_reproduction(str(folder / "small.toml"), "smoke", folder / "runs")
    before = describe(plan)
    return plan, before, reproduce(plan)


def test_before_anything_is_trained_every_cell_says_what_is_missing(finished):
    _, before, _ = finished
    assert {each["not_run"] for each in before["cells"]} == {
        "0 of 2 seeds are trained; 'esl-neuro reproduce small --scale smoke' trains the rest"
    }


def test_the_measured_accuracy_is_the_mean_over_the_seeds_with_its_spread(finished):
    plan, _, after = finished
    accuracies = [100 * run.outcome()["test_accuracy"] for run in next(iter(plan.plans.values())).runs[:2]]
    measured = after["cells"][0]["measured"]
    assert measured["values"] == accuracies
    assert measured["mean"] == pytest.approx(sum(accuracies) / 2)
    assert measured["stdev"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert measured["seeds"] == [0, 1]
    assert after["cells"][0]["difference"] == pytest.approx(measured["mean"] - 50.0)


def test_counted_operations_are_those_of_the_integer_simulator(finished):
    plan, _, after = finished
    from esl_neuro.pipeline.activity import Activity, run_network

    run = plan.cells[1][1][0]
    result = run_network(run.folder.path, Activity("integer", 100))
    assert read_counted(run).operations_per_sample == result.counts.sop_effective_per_sample.mean()
    assert after["cells"][1]["measured"]["values"][0] == read_counted(run).operations_per_sample


def test_the_film_has_a_frame_for_each_update(finished):
    plan, _, after = finished
    frames = after["densities"]["sparse"]
    history = [json.loads(line) for line in plan.cells[2][1][0].folder.structure.read_text().splitlines()]
    assert [frame["iteration"] for frame in frames] == [entry["iteration"] for entry in history]
    assert frames[-1]["layers"]["fc1"]["density"] == history[-1]["density"]
    assert json.loads(plan.film.read_text()) == after["densities"]


def test_the_record_is_saved_and_a_second_run_trains_nothing(finished):
    plan, _, after = finished
    assert json.loads(plan.record.read_text()) == after
    messages = []
    assert reproduce(plan, on_status=messages.append) == after
    assert not [message for message in messages if "seed" in message]


def test_other_scales_list_the_cell_with_its_reason(folder):
    described = describe(load_reproduction(str(folder / "small.toml"), "full", folder / "runs"))
    assert [each["not_run"] for each in described["cells"]] == ["needs a GPU"]


def test_a_damaged_count_is_refused(finished, tmp_path):
    plan, _, _ = finished
    run = plan.cells[1][1][0]
    kept = tmp_path / "kept.json"
    shutil.copyfile(counted_file(run), kept)
    try:
        counted_file(run).write_text('{"backend": "lava", "samples": 0, "operations_per_sample": -1.0}')
        with pytest.raises(BadInput, match=r"operations\.json: damaged"):
            read_counted(run)
    finally:
        shutil.copyfile(kept, counted_file(run))


def test_runs_are_counted_once(finished, monkeypatch):
    plan, _, _ = finished
    monkeypatch.setattr("esl_neuro.pipeline.activity.run_network", pytest.fail)
    count_run(plan.cells[1][1][0])


def test_missing_data_are_named_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("ESL_NEURO_DATA", str(tmp_path))
    plan = load_reproduction("fig3a", "short", tmp_path / "runs")
    with pytest.raises(BadInput, match=r"'fashion_mnist' is not in .*copy the files there") as caught:
        reproduce(plan)
    assert "'mnist' is not in" in str(caught.value)
    assert "'cifar10' is not in" in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_case_that_the_sweep_does_not_have_is_named(folder, tmp_path):
    text = (folder / "small.toml").read_text().replace('case = "sparse"', 'case = "sparce"')
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(BadInput, match=r"has no case 'sparce'; did you mean 'sparse'\?"):
        load_reproduction(str(tmp_path / "wrong.toml"), "smoke", tmp_path)


def test_a_cell_of_the_default_quantity_is_an_accuracy():
    assert Cell(row="x").quantity == "test_accuracy"


def test_every_quantity_has_a_unit():
    assert sorted(QUANTITIES.names()) == sorted(UNITS)
