from __future__ import annotations

import pytest

from esl_neuro.energy.cite import bibliography, sources
from esl_neuro.errors import BadInput
from esl_neuro.hardware import load_target
from esl_neuro.resources import resource_names


@pytest.mark.parametrize("name", resource_names("hw_targets"))
def test_every_shipped_constant_names_its_sources(name):
    known = sources()
    for constant in load_target(name).constants.values():
        assert set(constant.cite) <= set(known)
        assert constant.cite or constant.source == "assumption of this project", constant.id


def test_every_entry_is_whole():
    for key, entry in sources().items():
        assert entry.startswith("@")
        assert entry.count("{") == entry.count("}"), key
        assert "title = {" in entry


def test_an_entry_stands_once_with_the_constants_that_need_it():
    chip = load_target("truenorth")
    text = bibliography([chip.constant("e_event_allin"), chip.constant("p_typ"), chip.constant("e_hop")])
    assert text.count("@article{merolla2014,") == 1
    assert "% truenorth.e_event_allin, truenorth.e_hop\n@article{merolla2014," in text
    assert "davies2018" not in text


def test_a_constant_of_ones_own_cites_its_source():
    constant = load_target("odin").constant("e_event_allin").model_copy(update={"cite": [], "source": "My paper 2026"})
    assert bibliography([constant]).endswith("note = {My paper 2026}\n}")


def test_an_unknown_entry_is_named():
    constant = load_target("odin").constant("e_event_allin").model_copy(update={"cite": ["frenkel2018"]})
    with pytest.raises(BadInput, match="cites 'frenkel2018'; did you mean 'frenkel2019'"):
        bibliography([constant])
