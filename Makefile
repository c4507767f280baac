# One command each: `make demo` plays, `make test` proves. Both make .venv first. `make help` lists the rest.

# Each recipe of several lines sets -e itself: the make that macOS ships knows no .SHELLFLAGS.
SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Another interpreter to try first: make test PYTHON=/opt/python3.12/bin/python3.12
PYTHON ?=
VENV := .venv
INSTALLED := $(VENV)/.installed
LOCK_VENV := .venv-lock
PIP_TOOLS := pip-tools==7.6.2

# What the smoke import must find: one module of each kind that has failed to install somewhere (compiled code, the
# package without its dependencies, ourselves).
SMOKE := import numpy, pyarrow, ray, soundfile, tinysoundfont, torch, orchestrion

# What pip's check says of the packages that are installed without what they claim to need, and when all is well.
WRONG_METADATA := -e '^tinysoundfont ' -e '^audiocraft ' -e '^No broken requirements'

QUICK := tests/unit tests/test_imports.py tests/test_lock.py
WITHOUT_RAY := $(QUICK) tests/long tests/test_packaging.py tests/commands tests/parity tests/servers tests/test_setup.py

.PHONY: help demo serve test test-unit check bench lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: $(INSTALLED) ## stream a track, render a catalog, print its cost; leaves everything in out/
	@$(VENV)/bin/python -m cluster.demo

serve: $(INSTALLED) ## the same set-up, and it stays up: web page and HTTP API, until Ctrl-C
	@$(VENV)/bin/python -m cluster.demo --serve

# What starts Ray needs all cores and runs alone, and everything else in two lanes, file by file.
test: $(INSTALLED) ## every test
	@$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile --durations=30 --durations-min=5 $(WITHOUT_RAY)
	@$(VENV)/bin/python -m pytest --durations=30 --durations-min=5 $(addprefix --ignore=,$(WITHOUT_RAY))

# What one wants to know after each change.
test-unit: $(INSTALLED) ## the tests that need no server, no Ray and no whole command: minutes
	@$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile $(QUICK)

check: $(INSTALLED) ## format, lint, types, and the lock against pyproject.toml
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/python -m pytest -q tests/test_lock.py

bench: $(INSTALLED) ## every benchmark, quick form; goes on after a failure and names it at the end
	@set -euo pipefail; failed=""; \
	for script in $$(grep -l '^if __name__ == "__main__":' benchmarks/*.py); do \
		quick=""; if grep -q -e '--quick' "$$script"; then quick=--quick; fi; \
		echo "== $$script $$quick"; \
		$(VENV)/bin/python -m "benchmarks.$$(basename "$$script" .py)" $$quick || failed="$$failed $$script"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

lock: ## rewrite requirements.lock from pyproject.toml (UPGRADE=1 takes the newest versions)
	@set -euo pipefail; python="$$(.ci/find-python $(PYTHON))"; \
	echo "== resolving with $$python and $(PIP_TOOLS); this takes minutes"; \
	"$$python" -m venv --clear $(LOCK_VENV); \
	$(LOCK_VENV)/bin/python -m pip install --quiet '$(PIP_TOOLS)'; \
	$(LOCK_VENV)/bin/pip-compile pyproject.toml --extra all --extra dev $(if $(UPGRADE),--upgrade) --generate-hashes --output-file requirements.lock \
		--strip-extras --allow-unsafe --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --quiet; \
	$(LOCK_VENV)/bin/python .ci/portable_lock.py requirements.lock; \
	rm -rf $(LOCK_VENV); \
	echo "== wrote requirements.lock; make test installs it and proves it"

clean: ## remove out/, caches and .venv
	rm -rf out .pytest_cache .mypy_cache .ruff_cache .hypothesis $(LOCK_VENV) $(VENV)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# In order: the torch build that the machine's index prefers, and every other file of the lock, by hash; what that build
# asks for beside it (nothing, or the CUDA libraries of exactly its version, which no list for every machine can hash);
# the packages whose metadata is wrong; for the tests of the GPU's kernels Triton, where no CUDA torch has brought its
# own. Then nothing may be missing.
# Compiled on all cores, which pip would do on one; not left to the first import, because where the environment forbids
# writing bytecode every process would compile all of it. Files for other Pythons cannot be compiled, and need not be.
# A .venv without the stamp was abandoned half-way (or is broken: then the stamp is taken away): it is made anew. One
# with an older stamp is brought up to the lock in place.
$(INSTALLED): requirements.lock requirements-nodeps.txt requirements-triton.txt pyproject.toml
	@set -euo pipefail; python="$$(.ci/find-python $(PYTHON))"; \
	if [ ! -e $@ ]; then \
		echo "== $(VENV): new, from $$python"; \
		"$$python" -m venv --clear $(VENV) || { echo "$$python cannot make a virtual environment. On Debian or Ubuntu:" \
			"apt install python3-venv; elsewhere install Python 3.11 or 3.12 from python.org." >&2; exit 1; }; \
	fi; \
	install="$(VENV)/bin/python -m pip --disable-pip-version-check install --no-compile"; \
	hashed="$$install --require-hashes --no-deps"; \
	echo "== $(VENV): installing requirements.lock (a few minutes the first time)"; \
	$(VENV)/bin/python .ci/install_torch.py; \
	$$hashed --requirement requirements.lock; \
	$$install --quiet "$$(grep -o '^torch==[0-9.]*' requirements.lock)"; \
	echo "== $(VENV): installing requirements-nodeps.txt and this project"; \
	$$hashed --quiet --no-build-isolation --requirement requirements-nodeps.txt; \
	$(VENV)/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda is not None)' && \
		$$hashed --quiet --requirement requirements-triton.txt; \
	$$install --quiet --no-deps --no-build-isolation --editable .; \
	missing="$$($(VENV)/bin/python -m pip --disable-pip-version-check check | grep -v $(WRONG_METADATA) || true)"; \
	if [ -n "$$missing" ]; then echo "the lock lacks something; run: make lock"; echo "$$missing"; exit 1; fi >&2; \
	echo "== $(VENV): compiling it"; \
	$(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib || true; \
	echo "== $(VENV): trying it"; \
	$(VENV)/bin/python -c '$(SMOKE)' || { rm -f $@; echo "$(VENV) is broken; the next make builds it anew" >&2; exit 1; }; \
	touch $@
