# make demo   watch a made-up recommender break, live
# make test   lint, types, import contract and tests
# make test SPARK=1 also fetches Spark (450 MB) for the tests that start a cluster; they need Java 17.
# All set up what they need in .venv; Python 3.11+ is all that has to be there.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test lint check-tests format clean

demo: $(VENV)/.installed
	@$(BIN)/recwatch demo $(ARGS)

test: lint check-tests

lint: $(VENV)/.developing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

check-tests: $(VENV)/.developing
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(ARGS)

format: $(VENV)/.developing
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@echo "setting up $(VENV) (about a minute, once)"
	@$(PYTHON) -m venv $(VENV)
	@# --group, below, needs pip 25.1.
	@$(PIP) install 'pip>=25.1'

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@$(PIP) install -e .
	@touch $@

$(VENV)/.developing: pyproject.toml | $(VENV)/bin/python
	@$(PIP) install -e '.[reports,spark]' --group dev $(if $(SPARK),--group spark)
	@touch $@ $(VENV)/.installed
