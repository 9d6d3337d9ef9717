# make demo   watch a made-up recommender break, live
# make test   lint, types, import contract and tests
# make lock   lock what recwatch rests on, with hashes, for every Python and machine that it runs on
# make audit  look for known holes in what is locked
# make test SPARK=1 ARGS="-k 'spark or hive'" fetches Spark (450 MB) and runs the tests that start a cluster (Java 17)
# All set up what they need in .venv; Python 3.11+ is all that has to be there.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test lint check-tests format lock audit clean

demo: $(VENV)/.installed
	@$(BIN)/recwatch demo $(ARGS)

test: lint check-tests

lint: $(VENV)/.developing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

check-tests: $(VENV)/.developing $(if $(SPARK),$(VENV)/.with-spark)
	@# The tests of a file stay together: what they share, a play of 80 s for one, is set up once.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

format: $(VENV)/.developing
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# No name of an index and no date is written, so that the same versions give the same bytes anywhere.
LOCK = $(VENV)/tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

# From that version on SQLAlchemy's dialect for DuckDB bounds it to what the tests run with.
lock: $(VENV)/tools/bin/uv
	echo 'duckdb-sqlalchemy>=1.5.6.5' | $(LOCK) $(ARGS) -c - pyproject.toml -o monitor/deploy/requirements.lock
	echo 'hatchling>=1.27' | $(LOCK) $(ARGS) - -o monitor/deploy/build.lock

audit: $(VENV)/tools/bin/pip-audit
	@$(VENV)/tools/bin/pip-audit --strict --disable-pip --require-hashes -r monitor/deploy/requirements.lock || \
	  { echo 'audit: holes are listed above, or else what is locked could not be looked up from here'; exit 1; }

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Apart from what is tested, whose versions they must not change.
$(VENV)/tools/bin/%: | $(VENV)/bin/python
	@$(PYTHON) -m venv $(VENV)/tools
	@$(VENV)/tools/bin/python -m pip --disable-pip-version-check --quiet install $*

$(VENV)/bin/python:
	@echo "setting up $(VENV) (about a minute, once)"
	@$(PYTHON) -m venv $(VENV)
	@# --group, below, needs pip 25.1.
	@$(PIP) install 'pip>=25.1'

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@$(PIP) install -e .
	@touch $@

$(VENV)/.developing: pyproject.toml | $(VENV)/bin/python
	@$(PIP) install -e '.[mysql,reports,spark]' --group dev
	@touch $@ $(VENV)/.installed

$(VENV)/.with-spark: $(VENV)/.developing
	@$(PIP) install --group spark
	@touch $@
