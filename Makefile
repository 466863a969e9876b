# Everything happens in .venv, made from pyproject.toml at the versions of requirements/ci.txt. A stamp file
# records each installed part, so a second run installs nothing.

PYTHON ?= python3
BACKEND ?= jax
# One process per core of a small machine; tests spend their time compiling.
PYTEST_ARGS ?= -n 2 --dist worksteal

BACKENDS := jax tensorflow torch
VENV := .venv
RUN := $(VENV)/bin/python
# What is imported is compiled then; TensorFlow, PyTorch, SciPy and scikit-learn as a whole take half a minute of CPU.
CONSTRAINED := -m pip install --quiet --disable-pip-version-check --no-compile --constraint requirements/ci.txt
PIP := $(RUN) $(CONSTRAINED)

export TF_CPP_MIN_LOG_LEVEL ?= 3
export NO_MKDOCS_2_WARNING ?= 1

# What need not be repeated on each backend is divided among them (tests/shares.py); `test-full` repeats it.
SHARE := --share
test-full: SHARE :=

# The suite compiles thousands of tiny programs and runs each a few times: compiled quickly is better than compiled
# well. Flags of the pinned version of JAX; a test run without them is slower and must pass as well.
# Compiling the tests and the package anew in each of the many processes takes ten seconds each, wherever this is set.
test test-full test-oldest test-latest: export PYTHONDONTWRITEBYTECODE :=
test test-full test-oldest test-latest: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= 1
test test-full test-oldest test-latest: export XLA_FLAGS ?= --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1

ifeq ($(filter $(BACKEND),$(BACKENDS)),)
$(error BACKEND must be one of: $(BACKENDS). Received: BACKEND=$(BACKEND))
endif

.DEFAULT_GOAL := help
.PHONY: help demo test test-full test-oldest test-latest test-site lint docs guides names bench release clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo 'make demo    a comparison on real data, on JAX (or BACKEND=tensorflow, BACKEND=torch)'
	@echo 'make test    linter and test suite, divided among JAX, TensorFlow and PyTorch'
	@echo 'make test-full    every case on all three (PYTEST_ARGS="-k sam" for some)'
	@echo 'make test-oldest  the suite on the oldest Keras, JAX, TensorFlow and PyTorch that may be installed'
	@echo 'make test-latest  the suite on the newest Keras, JAX, TensorFlow and PyTorch'
	@echo 'make lint    ruff check, ruff format --check and mypy'
	@echo 'make docs    the site, into site/'
	@echo 'make guides  runs the guides and keeps what they print and draw (GUIDES="calibration" for some)'
	@echo 'make test-site    builds the site and looks at every page in Chromium'
	@echo 'make names   adds new registered names to tests/registered_names.txt'
	@echo 'make bench   what the methods cost, as ratios, on one BACKEND'
	@echo 'make release what would be uploaded, into dist/, tried in empty environments'
	@echo 'make clean   removes .venv and whatever was built'

demo: $(VENV)/.backend-$(BACKEND) $(VENV)/.extra-demo
	KERAS_BACKEND=$(BACKEND) $(RUN) -m benchmarks.demo

# The suite on each backend by one interpreter.
define pytest-on-each
for backend in $(BACKENDS); do \
	echo; echo "== pytest on $$backend"; \
	KERAS_BACKEND=$$backend $(1) -m pytest $(SHARE) $(PYTEST_ARGS) || failed="$$failed $$backend"; \
done; \
echo; \
if [ -n "$$failed" ]; then echo "FAILED:$$failed"; exit 1; fi; \
echo "Passed on $(BACKENDS)."
endef

# Every check runs, whatever became of the ones before it; the last line says which failed.
test test-full: $(BACKENDS:%=$(VENV)/.backend-%) $(VENV)/.extra-test $(VENV)/.ecosystem
	@failed=; \
	$(RUN) -m ruff check . || failed="$$failed ruff-check"; \
	$(RUN) -m ruff format --check . || failed="$$failed ruff-format"; \
	$(RUN) -m mypy || failed="$$failed mypy"; \
	$(call pytest-on-each,$(RUN))

# The lower bounds of pyproject.toml, in an environment of their own.
OLDEST := .venv-oldest
OLDEST_PIP := $(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements/oldest.txt
test-oldest: $(OLDEST)/.created
	@failed=; $(call pytest-on-each,$(OLDEST)/bin/python)

$(OLDEST)/.created: requirements/oldest.txt pyproject.toml
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST_PIP) setuptools wheel --requirement requirements/oldest.txt
	$(OLDEST_PIP) --no-build-isolation --editable '.[test]'
	@touch $@

# The newest releases that can be installed, each time anew, in an environment of their own. What the package relies
# on beyond public interfaces is in tests/test_keras_assumptions.py: it says what a new release has changed.
LATEST := .venv-latest
LATEST_PIP := $(LATEST)/bin/python -m pip install --quiet --disable-pip-version-check
test-latest:
	$(PYTHON) -m venv --clear $(LATEST)
	$(LATEST_PIP) --upgrade setuptools wheel keras jax tensorflow-cpu torch
	$(LATEST_PIP) --no-build-isolation --editable '.[test]'
	$(LATEST_PIP) --no-deps --requirement requirements/ecosystem.txt
	@$(LATEST)/bin/python -m pip list | grep -iE '^(keras|jax|jaxlib|tensorflow|torch|numpy)'
	@failed=; $(call pytest-on-each,$(LATEST)/bin/python)

lint: $(VENV)/.ruff
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: $(VENV)/.backend-$(BACKEND) $(VENV)/.extra-docs
	KERAS_BACKEND=$(BACKEND) $(RUN) -m docs.tools
	KERAS_BACKEND=$(BACKEND) $(RUN) -m mkdocs build --strict

# Runs guides in full and keeps what they print and draw: all, or those of GUIDES="noisy_labels calibration".
guides: $(VENV)/.backend-$(BACKEND) $(VENV)/.extra-docs $(VENV)/.ecosystem
	KERAS_BACKEND=$(BACKEND) $(RUN) -m docs.tools.guides $(GUIDES)

# The built site in Chromium, which Debian and others have as a package of that name.
test-site: docs
	@command -v chromium > /dev/null || { echo 'make test-site needs the program chromium.'; exit 1; }
	KERAS_BACKEND=$(BACKEND) $(RUN) -m pytest -q docs/tools/test_site.py

names: $(VENV)/.backend-$(BACKEND) $(VENV)/.extra-test
	KERAS_BACKEND=$(BACKEND) $(RUN) -m tests.extend_registered_names

bench: $(VENV)/.backend-$(BACKEND) $(VENV)/.extra-bench
	KERAS_BACKEND=$(BACKEND) $(RUN) -m benchmarks

# What is committed becomes the two archives that would be uploaded, and the wheel alone has to run the README's code on
# each backend, outside of the checkout's folder and with nothing but what it asks for.
RELEASE := build/release
RELEASE_TOOLS := $(RELEASE)/tools/bin/python
release:
	rm -rf dist $(RELEASE)
	mkdir -p $(RELEASE)/source $(RELEASE)/sdist
	git archive HEAD | tar -x -C $(RELEASE)/source
	$(PYTHON) -m venv $(RELEASE)/tools
	$(RELEASE_TOOLS) $(CONSTRAINED) build twine check-wheel-contents
	PIP_CONSTRAINT=$(CURDIR)/requirements/ci.txt $(RELEASE_TOOLS) -m build --outdir dist $(RELEASE)/source
	$(RELEASE_TOOLS) -m twine check --strict dist/*
	$(RELEASE)/tools/bin/check-wheel-contents dist/*.whl
	tar -xzf dist/*.tar.gz -C $(RELEASE)/sdist --strip-components 1
	@for folder in tests guides benchmarks docs requirements; do \
		diff -r $(RELEASE)/source/$$folder $(RELEASE)/sdist/$$folder || exit 1; \
	done
	@for backend in $(BACKENDS); do \
		venv=$(RELEASE)/$$backend; \
		$(PYTHON) -m venv $$venv || exit 1; \
		$$venv/bin/python $(CONSTRAINED) $$(echo $$backend | sed s/tensorflow/tensorflow-cpu/) dist/*.whl || exit 1; \
		KERAS_BACKEND=$$backend $$venv/bin/python -I tests/try_release.py README.md || exit 1; \
	done
	@ls -l dist

clean:
	rm -rf $(VENV) $(LATEST) $(OLDEST) build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
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
