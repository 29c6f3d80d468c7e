# Every target sets up all that it needs; from a fresh clone: make search, or make test.
#
#   make search                                the main job: replk-search --budget 200
#   make search ARGS="--budget 20 --out DIR"   other arguments in its place
#   make test                                  lint, types, all tests but the slow ones
#   make test-all                              lint, types, all tests
#   make bench                                 the benchmarks
#
# TORCH picks the torch build. The plain name brings the CUDA libraries on Linux (several GB), right for a
# machine with a GPU; TORCH=torch==2.13.0 asks for one release, in whatever build pip finds for this machine.
# PYTHON is the interpreter that makes .venv: 3.11 or newer.

TORCH ?= torch
PYTHON ?= python3
ARGS ?= --budget 200

VENV := .venv
BIN := $(VENV)/bin/python
PIP := $(BIN) -m pip --disable-pip-version-check
# One stamp per value of TORCH: asking for another build installs it, asking again does nothing.
TORCH_STAMP := $(VENV)/.torch-$(firstword $(shell printf '%s' '$(TORCH)' | cksum))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help search test test-all bench check

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

search: $(VENV)/.installed
	$(BIN) -m runs $(ARGS)

test: check
	$(BIN) -m pytest -m "not slow"

test-all: check
	$(BIN) -m pytest -m ""

bench: $(VENV)/.installed-bench
	$(BIN) -m pytest -m "" -s tests/benchmarks

check: $(VENV)/.installed-test
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .
	$(BIN) -m mypy

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'make: Python 3.11 or newer is needed; name one with PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch comes first and alone, so that no other package chooses its build.
$(TORCH_STAMP): $(VENV)/.created
	@rm -f $(VENV)/.torch-*
	$(PIP) install '$(TORCH)'
	@touch $@

# The pin keeps pip from putting another torch in the place of that one.
$(VENV)/.installed $(VENV)/.installed-test $(VENV)/.installed-bench: $(TORCH_STAMP) pyproject.toml
	@$(BIN) -c 'from importlib.metadata import version; print("torch==" + version("torch"))' > $(VENV)/torch.txt
	$(PIP) install --constraint $(VENV)/torch.txt --editable '.$(EXTRAS)'
	@touch $@

$(VENV)/.installed-test: EXTRAS := [test]
$(VENV)/.installed-bench: EXTRAS := [test,bench]
