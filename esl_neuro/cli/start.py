"""The start of ``esl-neuro``: a signal ends the command in one line also while its modules are imported."""

from __future__ import annotations

import sys

from esl_neuro.interruption import end_at_once


def main() -> int:
    """Import and run the command line, and return its exit code."""
    end_at_once()  # nothing is there to be saved yet; the command itself sets handlers that save
    from esl_neuro.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
