# Two commands for a fresh clone: `make demo` and `make test`. Both need only Python and a package index.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that tests run in; each holds up to 4 GB.
WORKERS ?= 2
PACKAGE := pyproject.toml setup.py Makefile

# TensorFlow's notes about the machine are not about this project.
export TF_CPP_MIN_LOG_LEVEL ?= 2
# On all processors the kernels that TensorFlow chooses itself on those with AVX-512.
export TF_ENABLE_ONEDNN_OPTS ?= 1

.PHONY: help demo test test-all mutants fuzz lint format docs equations bench clean

help:
	@echo "make demo       install into $(VENV) and detect digits with the shipped weights"
	@echo "make test       install into $(VENV) with the test tools and run the tests, long tables sampled"
	@echo "make test-all   the same with the tables whole"
	@echo "make mutants    break the package in small ways: a test must notice each"
	@echo "make lint       ruff, lint and format, without changing a file"
	@echo "make format     let ruff repair and format; write the generated pages"
	@echo "make docs       write the generated pages and tables of README.md and docs/"
	@echo "make bench      the benchmarks, against the peers that are installed"
	@echo "make fuzz       20 000 mutated annotation files, images and models (tests/fuzz.py)"
	@echo "make clean      remove what the other commands made"
	@echo "PYTHON=python3.12 make ... chooses the interpreter ($(VENV) must not exist yet)"

demo: $(VENV)/demo.stamp
	$(BIN)/kerasdet demo

# In parts, because TensorFlow keeps memory of every graph that a process has traced.
FIRST := tests/contract tests/export tests/parity
SECOND := tests/models
THIRD := tests/layers tests/zoo $(wildcard tests/test_*.py)
REST := tests $(addprefix --ignore=,$(FIRST) $(SECOND) $(THIRD))

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest -n $(WORKERS) $(ALL) $(FIRST)
	$(BIN)/python -m pytest -n $(WORKERS) $(ALL) $(SECOND)
	$(BIN)/python -m pytest -n $(WORKERS) $(ALL) $(THIRD)
	$(BIN)/python -m pytest -n $(WORKERS) $(ALL) $(REST)

test-all:
	$(MAKE) test ALL=--all

# MUTANTS="--sample 10 --seed 3" runs a tenth of them, MUTANTS="--only losses" one table.
mutants: $(VENV)/test.stamp
	$(BIN)/python -m tests.mutants --jobs $(WORKERS) $(MUTANTS)

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/test.stamp docs
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

equations: $(VENV)/test.stamp
	$(BIN)/python docs/equations.py

docs: equations
	$(BIN)/python docs/tables.py

# Of peers in environments of their own: BENCH="--torch-python ENV/bin/python" BENCH_YOLO="--opencv-python ENV/bin/python".
bench: $(VENV)/test.stamp
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/box_counts.py
	$(BIN)/python benchmarks/one_stage.py $(BENCH)
	$(BIN)/python benchmarks/two_stage.py $(BENCH)
	$(BIN)/python benchmarks/yolo.py $(BENCH_YOLO)
	$(BIN)/python benchmarks/ops.py

fuzz: $(VENV)/test.stamp
	$(BIN)/python -m tests.fuzz

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Both installations are editable, so that one environment serves both commands and never holds a stale copy.
$(VENV)/demo.stamp: $(VENV)/python.stamp $(PACKAGE)
	$(BIN)/python -m pip install -qq --editable ".[demo]"
	@touch $@

$(VENV)/test.stamp: $(VENV)/python.stamp $(PACKAGE)
	$(BIN)/python -m pip install -qq --editable ".[test]"
	@touch $@

$(VENV)/python.stamp:
	@command -v $(PYTHON) >/dev/null || { \
		echo "kerasdet needs Python 3.11 or newer, and '$(PYTHON)' was not found." >&2; \
		echo "Install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "kerasdet needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Making $(VENV) and installing (TensorFlow is large: a few minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV) || { \
		echo "No virtual environment: is Python's venv module installed (Debian: python3-venv)?" >&2; \
		rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install -qq --upgrade pip
	@touch $@
