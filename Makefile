# Two commands from a fresh clone: `make demo` (the main job) and `make test` (all checks).
# Everything is installed into .venv with the versions of constraints.txt.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo

.PHONY: demo test lint types check slow setup clean

demo: $(READY)
	$(BIN)/manyeyes demo --out $(OUT)

test: $(READY)
	$(BIN)/python -m pytest --cov=manyeyes --cov-report=term:skip-covered --cov-fail-under=85

slow: $(READY)
	$(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

check: lint types test

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) demo
