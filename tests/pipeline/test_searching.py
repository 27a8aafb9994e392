"""Searches with trials that are not trained: what is proposed, kept, stopped and continued."""

from __future__ import annotations

import math

import pytest
import tomli_w

from esl_neuro.errors import BadInput, CheckFailed, MissingDependency
from esl_neuro.pipeline import searching
from esl_neuro.pipeline.searching import covered, list_trials
from esl_neuro.pipeline.study import JOURNAL, Study
from esl_neuro.pipeline.trial import Impossible, Task, advance
from esl_neuro.pipeline.workers import Workplace
from esl_neuro.training.search import SearchPlan, load_search
from esl_neuro.training.trials import DONE, REFUSED, STARTED, STOPPED, Measure

DOCUMENT = {
    "title": "a small search",
    "recipe": "mlp-digits",
    "trials": 12,
    "random": 4,
    "stop_after": [2, 4],
    "fixed": {"training.epochs": 8, "sparsity.layers": ["all"]},
    "space": {
        "sparsity.density": {"low": 0.02, "high": 0.3, "log": True},
        "data.steps": {"low": 2, "high": 16},
        "network.surrogate": {"choices": ["arctan", "triangle"]},
    },
}


def make(folder, **changes):
    path = folder / "mine.toml"
    path.write_text(tomli_w.dumps({**DOCUMENT, **changes}), encoding="utf-8")
    return load_search(str(path), folder / "runs")


def toy(task) -> Measure | Impossible:
    """A network that learns more with more connections and with fewer steps; very sparse ones cannot be trained."""
    recipe = task.trial.runs[0].recipe
    density, steps = recipe.sparsity.density, recipe.data.steps
    if density < 0.025:
        return Impossible(f"density {density:.1g} is too low")
    learned = 1 - math.exp(-(task.epoch or 8) / 3)
    accuracy = learned * density**0.2 * (1 - steps / 32) * (1.1 if recipe.network.surrogate == "arctan" else 0.9)
    return Measure(accuracy, steps * 1e6 + density * 1e5, 1000 * density)


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """Let trials be toys; return the tasks that were done."""
    done = []

    def advance(task, tell, wanted):  # noqa: ARG001
        done.append((task.trial.number, task.epoch))
        return toy(task)

    monkeypatch.setattr(searching, "advance", advance)
    return done


def go(plan) -> list:
    """Run the trials that have not ended, one after the other; return all."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    search = searching._Search(plan, Study(plan, alone=True), lambda _: None)
    search.prepare()
    searching._work(search, Workplace(), searching.hidden)
    return search.study.records()


def test_every_trial_ends_in_a_state_that_is_kept(tmp_path, toys):
    plan = make(tmp_path, trials=25)
    records = go(plan)
    assert [each.number for each in records] == list(range(25))
    assert len({each.values["sparsity.density"] for each in records}) == 25
    assert {each.state for each in records} == {DONE, STOPPED, REFUSED}
    for each in records:
        assert (each.measure is None) == (each.state != DONE)
        assert bool(each.reason) == (each.state in (STOPPED, REFUSED))
        reached = [epoch for number, epoch in toys if number == each.number and each.state != REFUSED]
        assert reached == [2, 4, None][: len(reached)]
        assert [*each.reached] == [epoch for epoch in reached if epoch]
    assert Study(plan, alone=False).records() == records


def test_a_search_that_was_killed_at_any_moment_ends_as_one_that_was_not(tmp_path):
    """Every beginning of the journal is what a kill may leave, also one that ends within a line."""
    plan = make(tmp_path, trials=9)
    straight = go(plan)
    lines = (plan.folder / JOURNAL).read_text().splitlines(keepends=True)
    for kept in range(0, len(lines), 5):
        torn = lines[kept][: len(lines[kept]) // 2] if kept % 2 else ""
        (plan.folder / JOURNAL).write_text("".join(lines[:kept]) + torn)
        assert go(plan) == straight
        assert Study(plan, alone=False).records() == straight  # what is on the disk, too


def test_a_search_that_asked_for_fewer_trials_goes_on_as_one_that_asked_for_all(tmp_path):
    fewer = make(tmp_path, trials=5)
    go(fewer)
    assert go(make(tmp_path)) == go(make(tmp_path / "runs", trials=12))


def test_another_seed_gives_other_trials(tmp_path):
    first, second = (go(make(folder, sampler_seed=seed)) for seed, folder in ((0, tmp_path), (1, tmp_path / "runs")))
    assert first[0].values != second[0].values


def test_the_sampler_leaves_the_part_of_the_space_in_which_nothing_can_be_trained(tmp_path, monkeypatch):
    """Of random trials, half would be refused."""
    narrow = {"low": 0.5, "high": 1.0}
    plan = make(tmp_path, space={**DOCUMENT["space"], "sparsity.density": narrow}, trials=40, random=8, stop_after=[])

    def half(task, tell, wanted):  # noqa: ARG001
        density = task.trial.runs[0].recipe.sparsity.density
        return Impossible("too dense") if density > 0.75 else Measure(0.5, density, density)

    monkeypatch.setattr(searching, "advance", half)
    later = [each.state for each in go(plan)][20:]
    assert later.count(REFUSED) <= 7


@pytest.fixture
def apart(monkeypatch):
    """Let the values of a trial not go together."""
    trial = SearchPlan.trial

    def refusing(self, number, values):
        if number == 2:
            raise BadInput("these do not go together")
        return trial(self, number, values)

    monkeypatch.setattr(SearchPlan, "trial", refusing)


@pytest.mark.usefixtures("apart")
def test_values_that_do_not_go_together_are_refused_and_the_search_goes_on(tmp_path):
    plan = make(tmp_path, trials=4)
    records = go(plan)
    assert (records[2].state, records[2].reason) == (REFUSED, "these do not go together")
    assert len(records) == 4
    path = plan.folder / JOURNAL
    lines = path.read_text().splitlines(keepends=True)
    (told,) = (number for number, line in enumerate(lines) if "do not go together" in line)
    path.write_text("".join(lines[:told]))  # it was killed before it said so
    assert go(plan) == records


def test_another_search_in_the_folder_is_refused_with_what_differs(tmp_path):
    go(make(tmp_path))
    other = make(tmp_path, random=5, fixed={**DOCUMENT["fixed"], "training.batch": 32})
    with pytest.raises(BadInput) as caught:
        Study(other, alone=True)
    assert "holds another search: random is 4 there, 5 is requested" in str(caught.value)
    assert "recipe.training.batch is 64 there, 32 is requested" in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda lines: ["{", *lines], "line 1 is damaged"),
        (lambda lines: ["[]", *lines], "line 1 is damaged (it is no table)"),
        (lambda lines: lines[1:], "damaged"),
        (lambda lines: [line.replace('"op_code":', '"code":') for line in lines], "damaged (KeyError"),
        (lambda lines: [line.replace("sparsity.density", "other") for line in lines], "damaged"),
    ],
)
def test_a_damaged_journal_is_refused_with_the_fix(tmp_path, damage, words):
    plan = make(tmp_path, trials=2)
    go(plan)
    path = plan.folder / JOURNAL
    path.write_text("\n".join(damage(path.read_text().splitlines())) + "\n")
    with pytest.raises(BadInput) as caught:
        Study(plan, alone=True)
    assert words in str(caught.value)
    assert "delete this one and search again" in str(caught.value)


def test_optuna_reads_the_journal(tmp_path):
    """With its own class for such files, so that dashboards and its plots take it."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    plan = make(tmp_path)
    records = go(plan)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(plan.folder / JOURNAL)))
    study = optuna.load_study(study_name="search", storage=storage)
    assert [each.name for each in study.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    done = [each for each in records if each.state == DONE]
    assert [each.values for each in study.trials if each.values] == [
        [each.measure.accuracy, each.measure.energy_pj, each.measure.connections] for each in done
    ]
    ranks = searching.ranks({each.number: each.measure for each in done}, plan.search.objectives)
    assert {each.number for each in study.best_trials} == {number for number, rank in ranks.items() if rank == 1}


def test_listing_writes_nothing(tmp_path):
    plan = make(tmp_path)
    assert list_trials(plan)["to_come"] == 12
    assert not plan.folder.exists()
    go(plan)
    (plan.folder / JOURNAL).open("a").write('{"torn')
    before = (plan.folder / JOURNAL).read_bytes()
    assert [each["state"] for each in list_trials(plan)["trials"]].count(STARTED) == 0
    assert (plan.folder / JOURNAL).read_bytes() == before


# One trial.


class Broken:
    """A trial whose training ends with an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    @property
    def runs(self):
        raise self.error


def full_disk() -> BadInput:
    error = BadInput("last.safetensors: cannot be written: no space is left")
    error.__cause__ = OSError(28, "No space left on device")
    return error


def test_an_error_of_a_trial_is_its_result():
    for error in (BadInput("not possible"), CheckFailed("diverged")):
        assert advance(Task(Broken(error), None, "loihi2"), None, None) == Impossible(str(error))


@pytest.mark.parametrize("error", [full_disk(), MissingDependency("no tonic")])
def test_an_error_of_the_machine_ends_the_search(error):
    with pytest.raises(type(error), match=str(error)):
        advance(Task(Broken(error), None, "loihi2"), None, None)


def test_a_target_without_a_figure_is_refused_at_once():
    assert covered("loihi2") == "chip"
    with pytest.raises(BadInput, match="target: xylo has no figure"):
        covered("xylo")
