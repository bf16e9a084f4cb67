# Two commands do everything:
#
#   make run     the fleet, with an example configuration and a built-in mock upstream
#   make test    every test
#
# `make playground` builds the playground that needs no server into build/playground; it needs npm.
# `make check` is what a reviewer's eye should not be spent on: types and style.
# PYTHON names another interpreter; ARGS goes to `sentinel dev`, TESTS to pytest.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
TESTS  ?= tests

# The stamps say what was installed from what: a second `make run` starts at once.
NATIVE  := $(wildcard shm/_native/*.[ch] workers/_native/*.[ch])
SOURCES := pyproject.toml setup.py constraints.txt $(NATIVE)
PIP     := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# The Python that runs in a browser. To change it, change both lines (`npm view pyodide@VERSION dist`).
PYODIDE        := 314.0.7
PYODIDE_SHA256 := 66b7949e5a0cba2250b586d7e368bf12fb482800748d182c4618254b685ffaa0
PYODIDE_TGZ    := build/pyodide-$(PYODIDE).tgz

.PHONY: run test check playground clean compiled test-compiled
.DELETE_ON_ERROR:

run: $(VENV)/.run
	@$(BIN)/python -m sentinel dev $(ARGS)

# Those that kill by the thousand go first and alone: each keeps the machine busy, and forks of a large runner are slow.
test: $(VENV)/.test
	$(if $(filter tests,$(TESTS)),$(BIN)/python -m pytest -q tests/stress)
	$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder --durations 25 --durations-min 5 $(if $(filter tests,$(TESTS)),--ignore tests/stress) $(TESTS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy

# A copy of the tree, with the way of a request compiled (ADR 29). Run it from there: cd build/compiled && ../../.venv/bin/sentinel
COPIED := sentinel shm workers supervisor benchmarks tests docs deploy .ci pyproject.toml setup.py constraints.txt Makefile README.md

compiled: $(VENV)/.test
	@echo "make: compiling a copy in build/compiled (a minute or two)"
	@rm -rf build/compiled && mkdir -p build/compiled
	@tar -c --exclude=__pycache__ $(COPIED) | tar -x -C build/compiled
	@cd build/compiled && SENTINEL_COMPILED=1 $(abspath $(BIN))/python setup.py --quiet build_ext --inplace --parallel 2

test-compiled: compiled
	cd build/compiled && $(abspath $(BIN))/python -m pytest -q -n 2 --dist loadfile -m "not interpreted" \
		tests/core tests/workers tests/property tests/directives tests/system

playground: $(VENV)/.run build/pyodide-$(PYODIDE)/package.json
	@$(BIN)/python -m sentinel.cli.playground --pyodide build/pyodide-$(PYODIDE) build/playground

$(PYODIDE_TGZ):
	@command -v npm >/dev/null || { echo "make: npm is needed to fetch pyodide: install it, or put the package at $@"; exit 1; }
	@mkdir -p build
	@npm pack --silent --pack-destination build pyodide@$(PYODIDE) >/dev/null

build/pyodide-$(PYODIDE)/package.json: $(PYODIDE_TGZ)
	@echo "$(PYODIDE_SHA256)  $<" | sha256sum --check --quiet
	@mkdir -p $(@D)
	@tar -xzf $< -C $(@D) --strip-components 1
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info shm/_native/*.so workers/_native/*.so

$(VENV)/.venv:
	@sh .ci/preflight $(PYTHON)
	@echo "make: a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.venv $(SOURCES)
	@sh .ci/preflight $(PYTHON)
	@echo "make: installing, and building the two native extensions (about a minute, once)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo "make: installing what the tests need"
	@$(PIP) --editable '.[test]'
	@touch $@
