"""``python -m esl_neuro`` is the command ``esl-neuro``."""

import sys

from esl_neuro.cli.main import main

sys.exit(main())
