# make demo    from nothing to a measured answer     make test       set up and pass the tests
# make setup   prepare .venv only                    make benchmark  the figures of benchmarks/
#                                                    make test-long  what must be survived, 40 minutes
#                                                    make test-long-full, make soak  full counts; an hour

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-long test-long-full soak check benchmark clean

setup: $(STAMP)

# Everything is installed once, and again only when pyproject.toml changes: offline from then on.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/python -m bench demo

# Much of the tests waits for processes and for time to pass, so two files are under way at once.
test: setup check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# What must be survived, part by part: what was done before, of build/long, is not done again (--fresh does).
# coverage_guided needs atheris, which there is for Linux on x86-64.
LONG := PYTHONPATH=tests:. $(BIN)/python -m long.run

test-long: setup
	$(LONG) $(LONG_OPTIONS)

test-long-full: setup
	$(LONG) --full $(LONG_OPTIONS)

soak: setup
	$(LONG) --part soak $(LONG_OPTIONS)

check: setup
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/python -m mypy

benchmark: setup
	@for file in benchmarks/[a-z]*.py; do $(BIN)/python $$file || failed=1; done; exit $${failed:-0}

clean:
	rm -rf $(VENV) build *.egg-info
