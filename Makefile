# One command each: `make` alone lists them. Everything lives in .venv; nothing is installed outside it.

# python3.11 where it runs (a version manager's stub may exist and not run), otherwise python3.
PYTHON ?= $(if $(shell python3.11 -c 'print(1)' 2>/dev/null),python3.11,python3)

BIN := .venv/bin
STAMP := .venv/.installed
# Files of tests are shared out among so many processes, of one thread each: one more than two cores, since those of the
# studio and of several processes wait much of their time.
TEST_PROCESSES ?= 3
PIP_FLAGS := --quiet --no-input --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all torture bench check format docs docs-version wheel wheel-check sbom clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP)  ## make .venv and install bothways with its development tools

demo: $(STAMP)  ## set up if needed, then run the demo
	$(BIN)/bothways demo

# Compiled files are kept even where the shell says not to: every process of the tests would compile everything again.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test: $(STAMP)  ## set up if needed, then run the tests but for the slow ones
	$(PYTEST) -m "not slow"

test-all: $(STAMP)  ## set up if needed, then run all tests, those marked slow too
	$(PYTEST)

torture: $(STAMP)  ## kill, break, mislead, crowd and vary everything, some hours of a core, and write docs/reliability.md
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python benchmarks/torture/kills.py
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python benchmarks/torture/inputs.py
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python benchmarks/torture/determinism.py
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python benchmarks/torture/studio.py
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python benchmarks/torture/serve.py

bench: $(STAMP)  ## measure bothways beside other libraries, a quarter of an hour of a core, and write docs/benchmarks.md
	$(BIN)/python benchmarks/peers/bench.py

check: $(STAMP)  ## set up if needed, then lint, check the format and the types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(STAMP)  ## set up if needed, then mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(STAMP)  ## build the site of the docs into site/, every link checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

docs-version: $(STAMP)  ## build the site of this version into dist/docs, beside those of other versions
	NO_MKDOCS_2_WARNING=1 $(BIN)/python release/docs.py dist/docs

wheel: $(STAMP)  ## build the wheel into dist/, twice, and compare the two
	$(BIN)/python release/wheel.py dist

# Of all extras this downloads some twenty gigabytes: make wheel-check EXTRAS="none timm" tries these alone.
wheel-check: wheel  ## install the wheel in clean environments: no extras, each alone, all
	$(BIN)/python release/check.py $$(ls -t dist/*.whl | head -1) --record $(if $(EXTRAS),--extras $(EXTRAS))

sbom: $(STAMP)  ## write dist/sbom.json, a CycloneDX list of what is installed in .venv
	@mkdir -p dist
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o dist/sbom.json $(BIN)/python

clean:  ## remove .venv, caches and builds; runs/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist site
	find src tests benchmarks examples -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# A venv without pip is half made (interrupted): making it again over the old one completes it.
$(STAMP): pyproject.toml constraints.txt
	@if ! test -x $(BIN)/pip; then \
	  command -v "$(PYTHON)" >/dev/null || { \
	    echo "make: $(PYTHON) is not there; install Python 3.11, or name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "make: bothways needs Python 3.11 or newer, and $(PYTHON) is $$("$(PYTHON)" -V 2>&1); name another: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "make: $(PYTHON) has no venv module; install it (Debian, Ubuntu: apt install python3-venv), or name another: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }; \
	  echo "making .venv with $$("$(PYTHON)" -V)"; \
	  "$(PYTHON)" -m venv .venv; \
	fi
# A .venv that is a link is of another working tree, whose bothways stays the one that is installed there.
	@if test -L .venv; then \
	  echo ".venv is a link: nothing is installed into it; type PYTHONPATH=src before what is to run this tree"; \
	else \
	  echo "installing bothways and its tools into .venv (a minute or two, about 1 GB)"; \
	  $(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e ".[dev]" && touch $@; \
	fi
