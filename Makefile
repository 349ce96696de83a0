# Everything runs in a local environment (.venv) that each target makes when it is missing or out of date. The demo
# installs the little that it needs; the first of the other targets adds the rest to it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.demo
COMPILED := $(VENV)/.compiled
# Bytecode is kept, even where the environment says not to: each of the tests' many processes would compile the package.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest
# Percent of branch coverage that the unit tests reach alone. Raise it, never lower it. All tests have a floor of their
# own, in pyproject.toml.
UNIT_FLOOR := 63

.PHONY: brokers chaos demo docs fresh fuzz release test test-long coverage matrix check types style imports wheel sizes bench soak
.PHONY: soak-restart clean
.DEFAULT_GOAL := test

$(STAMP): pyproject.toml tools/environment.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python tools/environment.py tests
	@rm -f $(COMPILED)
	@touch $(STAMP)

$(DEMO_STAMP): pyproject.toml tools/environment.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -e $(STAMP) || $(BIN)/python tools/environment.py demo
	@touch $(DEMO_STAMP)

demo: $(DEMO_STAMP)
	@$(BIN)/nullworker demo

# What the tests need beside Python packages: brokers from Debian, libraries from npm. No test installs anything.
# While others' servers are waited for, what each of the tests' processes would else compile for itself is compiled.
brokers: $(STAMP)
	@test -e $(COMPILED) || { $(PYTEST) --collect-only -qq tests >/dev/null 2>&1; touch $(COMPILED); } & \
	$(BIN)/python -m tools.brokers; status=$$?; wait; exit $$status

# The commands in a Debian that has nothing else in it: FRESH="demo test" for both. Needs root and debootstrap.
FRESH ?= demo
fresh:
	@$(PYTHON) -m tools.fresh $(FRESH)

# No coverage here: the unit tests alone would need 120 s of CPU in place of 52 s. `make coverage` has the floors.
# Most of the other tests is waiting for other processes, so that six at a time suit two cores, also where another
# program has one; tests/schedule.py says which begin first, and which share a process.
test: $(STAMP) brokers
	@$(PYTEST) -n 2 --dist worksteal tests/unit
	@$(PYTEST) -n 6 --dist loadgroup tests --ignore=tests/unit

# What takes long and is shown in short by a test of the above. Ray is in an environment of its own: nothing imports it,
# and it wants other versions of what we use.
RAY := $(VENV)-ray
$(RAY)/.installed: pyproject.toml tools/environment.py
	@test -x $(RAY)/bin/python || $(PYTHON) -m venv $(RAY)
	@$(RAY)/bin/python tools/environment.py ray
	@touch $@

test-long: $(RAY)/.installed
test-long: $(STAMP) brokers
	@$(PYTEST) -n 2 -m long tests

# All tests again, with the branches counted that they take, in the processes that they start as well. It fails where
# the unit tests alone are below their floor, and below the floor of all that pyproject.toml has.
coverage: $(STAMP) brokers
	@$(PYTEST) -n 2 --dist worksteal --cov --cov-report= --cov-fail-under=$(UNIT_FLOOR) tests/unit
	@$(PYTEST) -n 4 --dist loadgroup --cov --cov-append --cov-report=term:skip-covered tests --ignore=tests/unit

# The tests that start no servers, on each supported Python that is on this machine.
matrix: $(STAMP)
	@$(BIN)/python -m tools.matrix

# Each by itself, so that `make -j` runs them side by side; the longest first.
check: types wheel style imports

types: $(STAMP)
	@$(BIN)/mypy

style: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

imports: $(STAMP)
	@$(BIN)/lint-imports

# The documentation site, with its links checked, from an environment of its own.
DOCS := $(VENV)-docs
$(DOCS)/.installed: pyproject.toml tools/environment.py
	@test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python tools/environment.py docs
	@touch $@

docs: $(DOCS)/.installed
	@$(DOCS)/bin/python -m tools.docs_site

# The wheel, its requirements with hashes, and its bill of materials, from an environment of its own.
RELEASE := $(VENV)-release
RELEASE_OUT ?= build/release
$(RELEASE)/.installed: pyproject.toml tools/environment.py
	@test -x $(RELEASE)/bin/python || $(PYTHON) -m venv $(RELEASE)
	@$(RELEASE)/bin/python tools/environment.py release
	@touch $@

release: $(RELEASE)/.installed
	@$(RELEASE)/bin/python -m tools.release --out $(RELEASE_OUT)

# The wheel, installed into empty environments: whether its commands run, and how large what it brings is.
wheel: $(STAMP)
	@$(BIN)/python -m tools.wheel

sizes: $(STAMP)
	@$(BIN)/python -m tools.sizes

bench: $(STAMP)
	@$(BIN)/nullworker bench

soak: $(STAMP)
	@$(BIN)/nullworker simulate --soak
	@$(BIN)/nullworker simulate --exhaustive --states 3000000

# Real processes under each kind of fault, at random moments; CHAOS is how many episodes of each.
CHAOS ?= 1
chaos: $(STAMP)
	@$(BIN)/python -m tools.brokers --chaos
	@$(BIN)/python -m tools.chaos --episodes $(CHAOS)

# Requests that are made of schemas, at an engine, a worker and a classic backend side by side: none may get a 5xx.
# MINUTES is how long in all.
MINUTES ?= 3
fuzz: $(STAMP)
	@$(BIN)/python -m tools.fuzz --minutes $(MINUTES)

# Kills an engine in mid-flight fifty times.
soak-restart: $(STAMP)
	@NULLWORKER_SOAK=50 $(BIN)/python -m pytest tests/integration/engine/test_restart.py

clean:
	rm -rf $(VENV) $(VENV)-3.* $(DOCS) $(RELEASE) $(RAY) .coverage .pytest_cache .mypy_cache .ruff_cache build *.egg-info
