"""Findings are raised together, or not at all."""

from __future__ import annotations

import pytest

from esl_neuro.errors import BadInput, LimitExceeded
from esl_neuro.nirgraph.findings import Finding, refuse_too_large, refuse_unsupported

FINDINGS = [
    Finding("wrong", "node 'a'", "is wrong"),
    Finding("wrong", "node 'b'", "is wrong too"),
    Finding("odd", "node 'c'", "looks odd", "warning"),
]


@pytest.mark.parametrize(
    ("refuse", "kind", "code"), [(refuse_unsupported, BadInput, 2), (refuse_too_large, LimitExceeded, 4)]
)
def test_all_findings_come_in_one_line(refuse, kind, code):
    with pytest.raises(kind) as caught:
        refuse(FINDINGS)
    assert str(caught.value).endswith(": node 'a': is wrong; node 'b': is wrong too")
    assert caught.value.exit_code == code


@pytest.mark.parametrize("refuse", [refuse_unsupported, refuse_too_large])
def test_no_finding_is_no_error(refuse):
    assert refuse([]) is None
    assert refuse(FINDINGS[2:]) is None
