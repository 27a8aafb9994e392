"""A recipe from elsewhere imports code only with consent."""

from __future__ import annotations

import pytest

from esl_neuro.cli.main import main
from esl_neuro.errors import BadInput
from esl_neuro.pipeline.training import load_run
from esl_neuro.recipes import load_recipe, save_recipe
from esl_neuro.recipes.consent import is_trusted
from esl_neuro.training.run_folder import create_run_folder
from esl_neuro.training.sweep import load_plan

CODE = "network.notation=strange_module:make"
REFUSAL = r"strange_module:make' runs code, and the file is outside the current folder.*consent with --allow-code"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder to work in, and a recipe that names code inside and outside of it."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    recipe = load_recipe("mlp-digits", (CODE,))
    for folder in (here, elsewhere):
        folder.mkdir()
        save_recipe(recipe, folder / "recipe.toml")
    monkeypatch.chdir(here)
    monkeypatch.delenv("ESL_NEURO_RUNS", raising=False)
    return here, elsewhere


@pytest.mark.usefixtures("places")
def test_a_recipe_of_the_current_folder_needs_no_consent():
    assert load_recipe("./recipe.toml").network.notation == "strange_module:make"


def test_a_recipe_from_elsewhere_needs_consent(places):
    _, elsewhere = places
    for name in (str(elsewhere / "recipe.toml"), "../elsewhere/recipe.toml"):
        with pytest.raises(BadInput, match=REFUSAL):
            load_recipe(name)
        assert load_recipe(name, allow_code=True).network.notation == "strange_module:make"


def test_a_function_of_data_needs_consent_and_a_path_does_not(places):
    here, elsewhere = places
    for name, code in (("strange_module:samples", True), ("/a/b:c/samples.npz", False)):
        save_recipe(load_recipe("mlp-digits", (f"data.name={name}",)), elsewhere / "data.toml")
        given = str(elsewhere / "data.toml")
        if code:
            with pytest.raises(BadInput, match=r"data\.name = 'strange_module:samples' runs code"):
                load_recipe(given)
            with pytest.raises(BadInput, match="runs code"):
                load_recipe(given, (CODE,))  # consent to one module is none to another
        assert load_recipe(given, allow_code=True).data.name == name
        assert load_recipe(given, ("data.name=digits",)).data.name == "digits"
    assert here.is_dir()


def test_a_link_to_a_recipe_elsewhere_is_a_recipe_elsewhere(places):
    here, elsewhere = places
    (here / "link.toml").symlink_to(elsewhere / "recipe.toml")
    with pytest.raises(BadInput, match=REFUSAL):
        load_recipe("./link.toml")


def test_what_the_user_types_is_consent(places):
    _, elsewhere = places
    assert load_recipe(str(elsewhere / "recipe.toml"), (CODE,)).network.notation == "strange_module:make"
    assert load_recipe(str(elsewhere / "recipe.toml"), ("network.notation=64-10",)).network.notation == "64-10"


def test_a_run_elsewhere_needs_consent_and_one_in_the_given_folder_of_runs_does_not(places, monkeypatch):
    _, elsewhere = places
    run = create_run_folder(elsewhere / "runs", load_recipe("mlp-digits", (CODE,))).path
    with pytest.raises(BadInput, match=REFUSAL):
        load_run(run)
    assert load_run(run, allow_code=True).recipe.network.notation == "strange_module:make"
    monkeypatch.setenv("ESL_NEURO_RUNS", str(elsewhere / "runs"))
    assert load_run(run).recipe.network.notation == "strange_module:make"


@pytest.mark.parametrize(
    "change",
    ['[fixed]\n"network.notation" = "strange_module:make"',
     '[fixed]\n"data.name" = "strange_module:make"',
     '[axes]\n"network.notation" = ["64-10", "strange_module:make"]',
     '[[cases]]\nlabel = "a"\nset = {network = {notation = "strange_module:make"}}'],
)  # fmt: skip
def test_a_sweep_from_elsewhere_needs_consent(places, change):
    here, elsewhere = places
    text = f'title = "t"\nrecipe = "mlp-digits"\nseeds = [0]\n{change}\n'
    (elsewhere / "mine.toml").write_text(text)
    with pytest.raises(BadInput, match=REFUSAL):
        load_plan(str(elsewhere / "mine.toml"), here / "runs")
    if "network =" not in change:  # a whole section of one field is no valid recipe
        (here / "mine.toml").write_text(text)
        assert load_plan("./mine.toml", here / "runs").runs
        assert load_plan(str(elsewhere / "mine.toml"), here / "runs", allow_code=True).runs


def test_home_and_root_are_nobody_s_project(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("ESL_NEURO_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert is_trusted(tmp_path / "recipe.toml")
    assert not is_trusted(tmp_path / "Downloads" / "recipe.toml")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    assert is_trusted(tmp_path / "project" / "a" / "recipe.toml")
    assert not is_trusted(tmp_path / "recipe.toml")


def test_the_command_refuses_before_it_imports(places, capsys):
    _, elsewhere = places
    recipe = str(elsewhere / "recipe.toml")
    assert main(["train", recipe]) == 2
    assert "consent with --allow-code" in capsys.readouterr().err
    assert main(["train", recipe, "--allow-code"]) == 2
    assert "module 'strange_module' of 'strange_module:make' cannot be imported" in capsys.readouterr().err
