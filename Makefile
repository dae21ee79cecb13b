# Every target works on its own on a fresh machine with Python 3.10+ and make: it makes .venv first where that is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint check notebooks slow docs bench matrix format clean
.DELETE_ON_ERROR:

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 16

install: $(STAMP) ## make .venv with the pinned dependencies

# Keeps a .venv that works and moves its packages to today's pins; replaces one that is broken or of an older Python.
$(STAMP): pyproject.toml constraints.txt
	@$(BIN)/python -c 'import sys, pip; assert sys.version_info >= (3, 10)' 2>/dev/null || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	    || { echo "expected Python 3.10 or newer, got $$($(PYTHON) --version): set PYTHON=..." >&2; exit 1; }; \
	  echo "making $(VENV): the first install takes some minutes"; \
	  $(PYTHON) -m venv --clear $(VENV); }
	@$(BIN)/python -m pip install -qq --no-input --disable-pip-version-check -c constraints.txt -e ".[test,torchattacks]"
	@touch $@

demo: $(STAMP) ## attack the presets and report in at most three minutes
	$(BIN)/python examples/01_quickstart.py

test: $(STAMP) ## the test suite without the slow, gpu and network marks
	$(BIN)/python -m pytest -q -n auto --maxprocesses 8 --dist worksteal

lint: $(STAMP) ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint test ## everything that a change must pass

notebooks: $(STAMP) ## execute every notebook; outputs on disk stay as they are
	$(BIN)/jupyter-execute notebooks/*.ipynb

slow: $(STAMP) ## the tests marked slow: up to an hour each
	$(BIN)/python -m pytest -q -m "slow and not gpu and not network" --timeout 3600

docs: $(STAMP) ## build the documentation in site/, without a network
	@$(BIN)/python -c 'import sphinx, furo, myst_nb, latex2mathml' 2>/dev/null \
	  || $(BIN)/python -m pip install -qq --no-input --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/sphinx-build -W --keep-going -q -b html -d build/doctrees docs site

bench: $(STAMP) ## measure speed and memory beside other libraries: some hours
	$(BIN)/python -m benchmarks

matrix: $(STAMP) ## part of the tests beside each Python and NumPy at hand: some minutes a row
	$(BIN)/python -m benchmarks.matrix

format: $(STAMP) ## rewrite the files as `make lint` wants them
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove .venv and the caches
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
