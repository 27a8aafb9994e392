"""The room is open to users by a few names, without torch."""

from __future__ import annotations

import subprocess
import sys

from esl_neuro import nirgraph


def test_every_public_name_is_there():
    assert all(hasattr(nirgraph, name) for name in nirgraph.__all__)


def test_importing_the_room_imports_no_torch():
    code = "import sys, esl_neuro.nirgraph; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
