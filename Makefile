# Every target works on a fresh machine that has Python 3.11 to 3.13, make and a package index; each installs what it needs.
#
#   make demo        a tour on real data, with a killed node
#   make test        the quick suite, at most 10 minutes on 2 cores
#   make test-long   everything, at most 60 minutes; goes on where it was interrupted (FRESH=1: from the start)
#   make check       format, lint, types, import rules, generated stubs, documentation
#   make bench       side by side with etcd, Redis and raw LevelDB
#   make install     only the virtual environment
#
# PYTHON=python3.12 chooses the interpreter of a new environment, VENV=folder its place, ARGS='…' adds arguments.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
FRESH ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
INSTALLED := $(VENV)/.installed
DESCRIPTIONS := pyproject.toml proto/pyproject.toml client/pyproject.toml chaos/pyproject.toml
CHECKS := check-format check-lint check-types check-imports check-stubs check-docs

# Compiled once, not by each of the thousand processes that the suite starts: a node's start costs half the processor time then.
unexport PYTHONDONTWRITEBYTECODE

.DELETE_ON_ERROR:
.PHONY: help install demo test test-long check bench $(CHECKS)

help:
	@sed -n 's/^#   //p' Makefile

install: $(INSTALLED)

# Anew when a pin or a description changed. An environment whose interpreter is gone is made again. The pins are complete, so nothing is
# left to resolve: pip's resolver would look at newer releases first, and fails at one that has no hash (name[extra] beside a pin).
$(INSTALLED): requirements-dev.txt $(DESCRIPTIONS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'kvstore needs Python 3.11 or newer; choose one with PYTHON=python3.12' >&2; exit 2; }
	@$(BIN)/python -c 'import pip' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) install -q --require-hashes --no-deps -r requirements-dev.txt
	$(PIP) install -q --no-deps --no-build-isolation -e proto -e client -e . -e chaos
	@touch $@

demo: install
	$(BIN)/kv demo $(ARGS)

test: install
	KV_TIER=quick $(BIN)/python -m pytest -n 4 --dist loadfile $(ARGS)

test-long: install
	$(BIN)/python -m tests.house.long_run $(if $(FRESH),--fresh) $(ARGS)

bench: install
	$(BIN)/python -m tests.bench.compare $(ARGS)

# `make -k check` goes on behind the first failure.
check: $(CHECKS)

check-format: install
	$(BIN)/ruff format --check .

check-lint: install
	$(BIN)/ruff check .

check-types: install
	$(BIN)/mypy

check-imports: install
	$(BIN)/lint-imports

check-stubs: install
	$(BIN)/python proto/generate.py --check

check-docs: install
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
