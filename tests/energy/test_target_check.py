from __future__ import annotations

import pytest

from esl_neuro.energy.target_check import findings
from esl_neuro.hardware import load_target
from esl_neuro.report.energy_layout import WIDTH
from esl_neuro.report.target_text import list_rows, render_target, render_target_list
from esl_neuro.resources import find_resource, resource_names

NAMES = resource_names("hw_targets")


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_target_is_in_order(name):
    assert findings(name) == []


def test_all_findings_come_at_once(tmp_path):
    text = find_resource("hw_targets", "odin").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(
        text.replace('["all-in", "marginal"]', '["all-in", "marginl", "table2"]').replace("frenkel2019", "frenkel2018")
    )
    found = " | ".join(findings(str(path)))
    assert "'marginl' is unknown; did you mean 'marginal'" in found
    assert "price model 'table2': hardware target 'odin': constant" in found
    assert "'frenkel2018' is not an entry of sources.bib; did you mean 'frenkel2019'" in found
    assert "target.name is 'odin', the file name is 'mine'" in found


def test_a_file_that_is_no_target_has_its_findings(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[target]\nname = 3\n")
    assert len(findings(str(path))) > 3
    (unknown,) = findings("trunorth")
    assert "did you mean 'truenorth'" in unknown


def test_the_list_has_every_target():
    rows = list_rows([load_target(name) for name in NAMES])
    text = render_target_list(rows)
    assert [row["name"] for row in rows] == NAMES
    assert all(name in text for name in NAMES)
    assert next(row for row in rows if row["name"] == "loihi2")["unpublished"] == 1


def test_a_target_is_shown_with_every_constant_and_its_source():
    chip = load_target("spinnaker2-prototype")
    text = " ".join(render_target(chip).split())
    for constant in chip.constants.values():
        assert constant.id in text
        assert constant.source in text
    assert chip.target.note in text
    assert max(map(len, render_target(load_target("truenorth")).splitlines())) <= WIDTH + 60
