# Two commands do everything:
#
#   make run     the fleet, with an example configuration and a built-in mock upstream
#   make test    every test
#
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

.PHONY: run test check clean
.DELETE_ON_ERROR:

run: $(VENV)/.run
	@$(BIN)/python -m sentinel dev $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(TESTS)

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy

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
