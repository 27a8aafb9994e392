"""``python -m esl_neuro`` is the command ``esl-neuro``."""

import runpy

runpy.run_module("esl_neuro.cli.start", run_name="__main__")
