"""A few of the disturbances of docs/reliability.md; its commands make all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_export_over_an_export_is_the_old_or_the_new_one():
    command = [sys.executable, HERE / "file_operations.py", "--case", "export over", "--every", "20"]
    faults = ["--fault", "full", "--fault", "kill"]
    done = subprocess.run([*command, *faults], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "6 disturbed operations, 0 failures"
