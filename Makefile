# The commands of this project. Each one sets up what it needs first, which takes no time when nothing has changed.
# Arguments go through ARGS: make test ARGS="-k energy -x"

.PHONY: help setup quickstart test check lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv: Python 3.10 with everything requirements.lock pins
	@scripts/setup

quickstart: setup ## the main job end to end on the embedded data set
	@.venv/bin/esl-neuro quickstart $(ARGS)

test: setup ## run the tests, one process a core
	@.venv/bin/python -m pytest -n auto --dist loadfile $(ARGS)

check: setup ## formatting, lint and types
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy

lock: setup ## write requirements.lock anew from pyproject.toml
	@scripts/lock $(ARGS)

clean: ## remove the environment and its tools
	@rm -rf .venv .uv
