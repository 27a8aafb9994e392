# The commands of this project. Each one sets up what it needs first, which takes no time when nothing has changed.
# Arguments go through ARGS: make test ARGS="-k energy -x". PYTHON=3.12 or a path chooses the interpreter.

.PHONY: help setup quickstart test check fuzz mutants bench results readers lava-dl docs release-check lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv, the complete environment: Python 3.11 to 3.13 with everything locks/ pins
	@scripts/setup

quickstart: setup ## the main job end to end on the embedded data set
	@.venv/bin/esl-neuro quickstart $(ARGS)

test: setup ## run the tests, one process a core
	@.venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup ## formatting, lint and types
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy

fuzz: setup ## damage files and see what every reader does: make fuzz ARGS="--minutes 60 --reader nir"
	@.venv/bin/python tests/reliability/fuzz.py $(ARGS)

mutants: setup ## change single operators and see whether tests notice: make mutants ARGS="energy/breakeven"
	@.venv/bin/python scripts/mutants $(ARGS)

bench: setup ## time and memory, beside peers and the limits of this machine: make bench ARGS="--quick growth"
	@.venv/bin/python scripts/bench $(ARGS)

results: setup ## run the commands of the published figures and write docs/results/*.json: make results ARGS="digits"
	@.venv/bin/python scripts/results $(ARGS)

readers: setup ## run the tests against other programs: readers of NIR, NeuroBench, SANA-FE, in environments of their own
	@scripts/test-readers $(ARGS)

lava-dl: setup ## run the tests against Intel's loader of .net files: Python 3.10, 6 GB
	@scripts/setup-lava-dl
	@.venv-lava-dl/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder tests/backends tests/data/test_images.py $(ARGS)

docs: setup ## build the documentation into site/, strictly, and run its notebooks
	@scripts/docs $(ARGS)

release-check: setup ## build sdist and wheel twice, compare the bytes, try the wheel in an empty environment: minutes
	@.venv/bin/python scripts/release-check

lock: setup ## write locks/*.lock anew from pyproject.toml
	@scripts/lock $(ARGS)

clean: ## remove the environment and its tools
	@rm -rf .venv .venv-lava-dl .readers .uv site
