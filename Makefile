# make        lists the targets
# PYTHON=...  the interpreter that makes .venv (3.10 or later)
# JOBS=...    processes of `make test`, 2; ARGS=... goes to pytest: ARGS="-n 0" for one process, as --pdb wants it
# TARGET=...  what `make bench` measures: a target that is this machine; ARGS=... goes to pytest

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
JOBS ?= 2
ARGS ?=
TARGET ?= auto

.DEFAULT_GOAL := help
.PHONY: help install setup demo test check format bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What running a model needs: the demo asks for no PyTorch.
$(VENV)/run.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[serve]'
	touch $@

# torch first and alone, so that its pinned build is settled before anything else asks for one.
$(VENV)/setup.stamp: $(VENV)/run.stamp
	$(PIP) torch
	$(PIP) --editable '.[train,quantize,dev,docs]'
	$(PIP) --no-deps rtmlib pose-format   # what they ask for writes over the headless OpenCV, or is PyAV
	touch $@

# MkDocs alone; the pages are made of the package's own text, and need no PyTorch.
$(VENV)/docs.stamp: $(VENV)/run.stamp
	$(PIP) --editable '.[docs]'
	touch $@

install: $(VENV)/run.stamp ## make .venv with what running a model needs; no PyTorch

setup: $(VENV)/setup.stamp ## make .venv with everything for training, tests and checks

demo: $(VENV)/run.stamp ## re-pose people with the shipped model; writes to out/
	$(BIN)/flowpose demo --out out

# One thread a process: two times two threads on two cores wait for each other.
test: export OMP_NUM_THREADS = 1
test: setup ## run the tests
	$(BIN)/pytest -n $(JOBS) $(ARGS)

check: setup ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup ## rewrite the code as `check` wants it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## benchmarks on this machine, TARGET=NAME; writes out/bench.json
	mkdir -p out
	$(BIN)/pytest benchmarks --target $(TARGET) --benchmark-json=out/bench.json $(ARGS)

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(VENV)/docs.stamp ## build the site into out/site; a dead link or a public name without a docstring ends it
	$(BIN)/mkdocs build --strict

clean: ## remove caches and out/; keeps .venv and artifacts/
	rm -rf out .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .benchmarks
