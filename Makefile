# Everything happens in .venv, made from pyproject.toml at the versions of requirements/ci.txt. A stamp file
# records each installed part, so a second run installs nothing.

PYTHON ?= python3
BACKEND ?= jax
# One process per core of a small machine; tests spend their time compiling.
PYTEST_ARGS ?= -n 2 --dist worksteal

BACKENDS := jax tensorflow torch
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --constraint requirements/ci.txt

export TF_CPP_MIN_LOG_LEVEL ?= 3

# The suite compiles thousands of tiny programs and runs each a few times: compiled quickly is better than compiled
# well. Flags of the pinned version of JAX; a test run without them is slower and must pass as well.
test: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= 1
test: export XLA_FLAGS ?= --xla_cpu_use_fusion_emitters=false

ifeq ($(filter $(BACKEND),$(BACKENDS)),)
$(error BACKEND must be one of: $(BACKENDS). Received: BACKEND=$(BACKEND))
endif

.DEFAULT_GOAL := help
.PHONY: help demo test lint docs names bench clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo 'make demo    a comparison on real data, on JAX (or BACKEND=tensorflow, BACKEND=torch)'
	@echo 'make test    linter and test suite on JAX, TensorFlow and PyTorch (PYTEST_ARGS="-k sam")'
	@echo 'make lint    ruff check, ruff format --check and mypy'
	@echo 'make docs    the site, into site/ (writes the catalog, the API and the guide pages first)'
	@echo 'make names   adds new registered names to tests/registered_names.txt'
	@echo 'make bench   what the methods cost, as ratios, on one BACKEND'
	@echo 'make clean   removes .venv and whatever was built'

demo: $(VENV)/.backend-$(BACKEND) $(VENV)/.extra-demo
	KERAS_BACKEND=$(BACKEND) $(RUN) -m benchmarks.demo

# Every check runs, whatever became of the ones before it; the last line says which failed.
test: $(BACKENDS:%=$(VENV)/.backend-%) $(VENV)/.extra-test $(VENV)/.ecosystem
	@failed=; \
	$(RUN) -m ruff check . || failed="$$failed ruff-check"; \
	$(RUN) -m ruff format --check . || failed="$$failed ruff-format"; \
	$(RUN) -m mypy || failed="$$failed mypy"; \
	for backend in $(BACKENDS); do \
		echo; echo "== pytest on $$backend"; \
		KERAS_BACKEND=$$backend $(RUN) -m pytest $(PYTEST_ARGS) || failed="$$failed $$backend"; \
	done; \
	echo; \
	if [ -n "$$failed" ]; then echo "FAILED:$$failed"; exit 1; fi; \
	echo "Passed on $(BACKENDS)."

lint: $(VENV)/.ruff
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: $(VENV)/.backend-$(BACKEND) $(VENV)/.extra-docs
	KERAS_BACKEND=$(BACKEND) $(RUN) docs/build_reference.py
	$(RUN) docs/build_guides.py
	$(RUN) -m mkdocs build --strict

names: $(VENV)/.backend-$(BACKEND) $(VENV)/.extra-test
	KERAS_BACKEND=$(BACKEND) $(RUN) -m tests.extend_registered_names

bench: $(VENV)/.backend-$(BACKEND) $(VENV)/.extra-bench
	KERAS_BACKEND=$(BACKEND) $(RUN) -m benchmarks

clean:
	rm -rf $(VENV) build dist site docs/guides *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	$(PIP) setuptools wheel
	@touch $@

# CPU builds. A backend is installed before the package, at its pinned version, so that nothing picks another build.
$(VENV)/.backend-%: requirements/ci.txt | $(VENV)/.created
	$(PIP) $(subst tensorflow,tensorflow-cpu,$*)
	@touch $@

$(VENV)/.ecosystem: requirements/ecosystem.txt | $(VENV)/.created
	$(PIP) --no-deps --requirement requirements/ecosystem.txt
	@touch $@

$(VENV)/.ruff: requirements/ci.txt | $(VENV)/.created
	$(PIP) ruff mypy numpy
	@touch $@

$(VENV)/.extra-%: pyproject.toml requirements/ci.txt | $(VENV)/.created
	$(PIP) --no-build-isolation --editable '.[$*]'
	@touch $@
